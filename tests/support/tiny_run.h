// A whole training run small enough for a test: token files in a temporary directory, a model of a
// few thousand parameters, a recording observer.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/core/convert.h"
#include "gpt2train/core/rng.h"
#include "gpt2train/data/loader.h"
#include "gpt2train/ops/backend.h"
#include "gpt2train/train/attention.h"
#include "gpt2train/train/trainer.h"
#include "tests/support/temp_dir.h"

namespace gpt2train::test {

inline RunConfig tiny_config() {
  RunConfig config;
  config.dtype = DType::kFloat32;
  config.seed = 42;
  config.model = {.n_layer = 2,
                  .n_head = 2,
                  .n_embd = 16,
                  .block_size = 8,
                  .vocab_size = 37,
                  .bias = true,
                  .dropout = 0.0,
                  .gelu = GeluForm::kErf};
  config.training.batch_size = 4;
  config.training.gradient_accumulation_steps = 3;
  config.training.max_iters = 4;
  config.evaluation.eval_interval = 2;
  config.evaluation.eval_iters = 2;
  config.optimizer.learning_rate = 1e-2;
  config.optimizer.min_lr = 1e-3;
  config.optimizer.warmup_iters = 1;
  config.optimizer.lr_decay_iters = 100;
  config.memory.logits_rows = 16;
  return config;
}

// How what outlives a step is stored.
struct Storage {
  DType dtype = DType::kFloat32;
  Moments moments = Moments::kFloat32;
  bool master_weights = true;
  Offload offload = Offload::kNone;
};
inline constexpr Storage kLeanest = {DType::kBFloat16, Moments::kBFloat16, false};

inline RunConfig with_storage(RunConfig config, const Storage& storage) {
  config.dtype = storage.dtype;
  config.memory.moments = storage.moments;
  config.memory.master_weights = storage.master_weights;
  config.memory.offload = storage.offload;
  return config;
}
inline std::string name_of(const Storage& storage) {
  return concat(gpt2train::name_of(storage.dtype),
                storage.moments == Moments::kFloat32    ? ""
                : storage.moments == Moments::kBFloat16 ? "_bf16_moments"
                                                        : "_int8_moments",
                storage.master_weights ? "" : "_no_masters",
                storage.offload == Offload::kNone ? "" : "_offloaded");
}
inline void PrintTo(const Storage& storage, std::ostream* out) {
  *out << name_of(storage);
}

class Recorder final : public TrainObserver {
 public:
  void on_plan(const PlanEvent& event) override { plans.push_back(event); }
  void on_step(const StepEvent& event) override { steps.push_back(event); }
  void on_evaluation(const EvalEvent& event) override { evaluations.push_back(event); }
  void on_out_of_memory(const OutOfMemoryEvent& event) override { out_of_memory.push_back(event); }
  void on_grow(const GrowEvent& event) override { grown.push_back(event); }
  void on_checkpoint(const CheckpointEvent& event) override { checkpoints.push_back(event); }
  void on_end(const EndEvent& event) override { end = event; }
  void on_note(const std::string& text) override { notes.push_back(text); }

  std::vector<PlanEvent> plans;
  std::vector<StepEvent> steps;
  std::vector<EvalEvent> evaluations;
  std::vector<OutOfMemoryEvent> out_of_memory;
  std::vector<GrowEvent> grown;
  std::vector<CheckpointEvent> checkpoints;
  std::optional<EndEvent> end;
  std::vector<std::string> notes;
};

// Everything that a Trainer stands on.
class TinyRun {
 public:
  explicit TinyRun(RunConfig c, std::size_t budget = CachingAllocator::kNoBudget,
                   std::int64_t token_count = 4000,
                   std::unique_ptr<Backend> device = open_cpu_backend())
      : config(std::move(c)),
        backend(std::move(device)),
        memory(backend->upstream(), budget, config.memory.segments) {
    if (config.out_dir == "out") config.out_dir = directory.path();
    const std::string path = directory.path() + "/tokens.bin";
    std::ofstream file(path, std::ios::binary);
    for (std::uint32_t i = 0; i < token_count; ++i) {
      const std::uint64_t word = philox({i / 3, 0, 0, 0}, 5)[0];  // runs of three: learnable
      const auto token = static_cast<std::uint16_t>(below(word << 32, config.model.vocab_size));
      file.write(reinterpret_cast<const char*>(&token), sizeof token);
    }
    file.close();
    source.emplace(path, TokenFormat::kNanoGpt, config.model.vocab_size);
    const auto loader = [&](std::optional<Loader>& to, RandomUse use) {
      to.emplace(*source, "data.train", config.model.block_size, config.seed, use);
    };
    loader(train_data, RandomUse::kTrainSample);
    loader(eval_data, RandomUse::kEvalSample);
  }

  TrainerSetup setup() {
    return {.backend = *backend,
            .kernels = kernels_for(config, *backend),
            .memory = memory,
            .config = config,
            .config_yaml = "seed: 42\n",
            .train_data = *train_data,
            .train_eval_data = *eval_data,
            .val_data = *eval_data,
            .observer = recorder,
            .interrupted = interrupted,
            .sample = {.next = [](std::int64_t index, std::span<const float>)
                           -> std::optional<std::int32_t> { return index % 5; },
                       .text_of =
                           [](std::span<const std::int32_t> tokens) {
                             std::string text;
                             for (const std::int32_t token : tokens) text += std::to_string(token);
                             return text;
                           }},
            .peak_flops_per_second = 0.0};
  }

  TempDir directory;
  RunConfig config;
  std::unique_ptr<Backend> backend;
  CachingAllocator memory;
  std::optional<TokenSource> source;
  std::optional<Loader> train_data, eval_data;
  Recorder recorder;
  std::function<bool()> interrupted;
};

// What a run took since its plan began is what was predicted of that plan: in all, by category, by
// tensor, and in each phase that it had.
inline void expect_as_predicted(const EndEvent& end) {
  const MemoryStats &predicted = end.prediction.stats, &measured = end.stats;
  EXPECT_EQ(measured.peak_allocated_bytes, predicted.peak_allocated_bytes);
  EXPECT_EQ(measured.peak_reserved_bytes, predicted.peak_reserved_bytes);
  EXPECT_EQ(measured.by_tag_at_peak, predicted.by_tag_at_peak);
  EXPECT_EQ(measured.largest_at_peak, predicted.largest_at_peak);
  EXPECT_EQ(measured.peak_phase, predicted.peak_phase);
  EXPECT_EQ(measured.peak_scope, predicted.peak_scope);
  for (std::size_t phase = 0; phase < kPhaseCount; ++phase) {
    if (measured.peak_by_phase[phase] == 0) continue;
    EXPECT_EQ(measured.peak_by_phase[phase], predicted.peak_by_phase[phase])
        << name_of(static_cast<Phase>(phase));
  }
  EXPECT_EQ(end.host_bytes, end.prediction.host_bytes);
}

// Codes of eight bits are numbers, too.
inline std::vector<float> floats_of(const std::vector<TensorToStore>& tensors) {
  std::vector<float> all;
  const auto append = [&]<class T>(const TensorToStore& tensor) {
    for (std::size_t at = 0; at < tensor.bytes.size(); at += sizeof(T)) {
      T value;
      std::memcpy(&value, tensor.bytes.data() + at, sizeof value);
      if constexpr (sizeof value == 1) {
        all.push_back(value);
      } else {
        all.push_back(to_float(value));
      }
    }
  };
  for (const TensorToStore& tensor : tensors) {
    if (tensor.dtype == "F32") {
      append.operator()<float>(tensor);
    } else if (tensor.dtype == "I8") {
      append.operator()<std::int8_t>(tensor);
    } else if (tensor.dtype == "U8") {
      append.operator()<std::uint8_t>(tensor);
    } else {
      append.operator()<bf16>(tensor);
    }
  }
  return all;
}

// In host memory, without padding: the weights that the optimizer updates, and its moments.
inline std::vector<float> weights_of(const ModelState& state) {
  return floats_of(state.checkpoint_weights());
}
inline std::vector<float> moments_of(const ModelState& state) {
  return floats_of(state.checkpoint_optimizer());
}

}  // namespace gpt2train::test
