// One forward and backward pass of a model by itself, without data or a trainer around it: what
// `verify` and the tests compare with references.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt2train/memory/upstream.h"
#include "gpt2train/model/gpt2.h"
#include "gpt2train/ops/exec.h"
#include "gpt2train/train/state.h"

namespace gpt2train {

class SinglePass {
 public:
  // Takes what it needs from `upstream`, without a budget; both references outlive it.
  SinglePass(const KernelTable& kernels, Upstream& upstream, const ModelConfig& config, DType dtype,
             Stream stream = {});

  ModelState& state() { return state_; }
  const Exec& exec() const { return exec_; }
  // Dropout of the passes to come, by the seed `dropout_seed`; 0 is none.
  void set_dropout(double rate, std::uint64_t dropout_seed);

  // Loss of (batch, time) tokens, summed and times `scale` (targets below 0 do not count); its
  // gradients are in state(), added to what is there if `accumulate`.
  float loss_and_gradients(std::int64_t batch, const std::vector<std::int32_t>& inputs,
                           const std::vector<std::int32_t>& targets, float scale,
                           bool accumulate = false);

  // (batch * time, vocab_size), without the padding of the vocabulary.
  std::vector<float> logits(std::int64_t batch, const std::vector<std::int32_t>& inputs);

  std::vector<float> gradient(const Parameter& parameter) const;

 private:
  Tensor upload(std::int64_t batch, const std::vector<std::int32_t>& tokens);
  Pass pass(const TensorView& tokens) const;

  ModelConfig config_;
  Precision precision_;
  CachingAllocator memory_;
  Exec exec_;
  ModelState state_;
  std::uint64_t dropout_seed_ = 0;
};

}  // namespace gpt2train
