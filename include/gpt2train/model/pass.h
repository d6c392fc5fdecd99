// What one pass over one micro-batch is: where it runs, which model, which samples.
#pragma once

#include <cstdint>
#include <string_view>

#include "gpt2train/core/precision.h"
#include "gpt2train/core/rng.h"
#include "gpt2train/memory/tensor.h"
#include "gpt2train/model/cache.h"
#include "gpt2train/model/config.h"
#include "gpt2train/ops/exec.h"

namespace gpt2train {

struct Pass {
  const Exec& exec;
  const ModelConfig& config;
  Precision precision;
  std::int64_t batch = 0;  // B
  std::int64_t time = 0;   // T
  bool training = false;   // dropout is on
  std::uint64_t seed = 0;
  const std::uint64_t* first_sample = nullptr;  // on the device: the first row's run-wide index
  Recompute recompute = Recompute::kNone;
  std::int64_t block_layers = 0;  // of kBlock
  // The tokens go on from what it holds, and their keys and values are added: for inference alone.
  const KeyValueCache* cache = nullptr;

  Recompute recompute_in(std::int64_t layer) const {
    return recompute_of(recompute, block_layers, layer);
  }
  Dropout dropout(RandomUse use, std::int64_t layer) const {
    return {.rate = training ? static_cast<float>(config.dropout) : 0.0f,
            .seed = seed,
            .more_samples = first_sample,
            .layer = static_cast<std::uint32_t>(layer),
            .use = use};
  }
  Tensor activation(std::string_view name, std::int64_t width) const {
    return {exec.memory(),
            Tag::kActivations,
            name,
            precision.of(Role::kActivation),
            {batch, time, width}};
  }
  Tensor statistic(std::string_view name, Shape shape) const {
    return {exec.memory(), Tag::kActivations, name, precision.of(Role::kStatistic), shape};
  }
};

}  // namespace gpt2train
