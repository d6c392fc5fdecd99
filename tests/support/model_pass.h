// One forward and backward pass of a model in host memory, without a trainer around it.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt2train/memory/upstream.h"
#include "gpt2train/model/gpt2.h"
#include "gpt2train/ops/ops.h"
#include "gpt2train/train/state.h"

namespace gpt2train::test {

class ModelPass {
 public:
  ModelPass(ModelConfig config, DType dtype)
      : config_(config),
        precision_{.compute = dtype},
        memory_(upstream_, CachingAllocator::kNoBudget),
        exec_(cpu_kernels(), memory_),
        state_(exec_, config_, precision_, Purpose::kTraining) {}

  ModelState& state() { return state_; }
  const Exec& exec() const { return exec_; }

  // Mean loss of (batch, time) tokens; gradients of it in state().
  float loss_and_gradients(std::int64_t batch, const std::vector<std::int32_t>& inputs,
                           const std::vector<std::int32_t>& targets, float share = 1.0f,
                           bool accumulate = false) {
    const std::int64_t time = static_cast<std::int64_t>(inputs.size()) / batch;
    const Tensor tokens = integers(batch, time, inputs), wanted = integers(batch, time, targets);
    const Tensor losses(memory_, Tag::kActivations, "losses", DType::kFloat32, {batch * time});
    const float scale = share / static_cast<float>(batch * time);
    forward_backward(pass(batch, time), {}, state_.weights(), state_.gradients(), tokens, wanted,
                     losses, scale, accumulate);
    ops::loss_sum(
        exec_,
        {.cell = state_.loss_cell(), .losses = losses, .scale = scale, .accumulate = accumulate});
    return *state_.loss_cell().as<float>();
  }

  // (batch * time, vocabulary), without padding.
  std::vector<float> logits(std::int64_t batch, const std::vector<std::int32_t>& inputs) {
    const std::int64_t time = static_cast<std::int64_t>(inputs.size()) / batch;
    const Tensor tokens = integers(batch, time, inputs);
    const Tensor x = forward(pass(batch, time), state_.weights(), tokens);
    const Tensor out = head_logits(pass(batch, time), x, state_.weights().wte);
    const Tensor wide(memory_, Tag::kLogits, "wide", DType::kFloat32, out.view().shape);
    ops::cast(exec_, {.out = wide, .in = out});
    std::vector<float> values;
    for (std::int64_t row = 0; row < wide.view().rows(); ++row) {
      const float* begin = wide.view().as<float>() + row * wide.view().width();
      values.insert(values.end(), begin, begin + config_.vocab_size);
    }
    return values;
  }

  std::vector<float> gradient(const Parameter& parameter) const {
    const TensorView view = state_.layout().view(state_.flat_gradients(), parameter);
    const float* begin = view.as<float>();
    return {begin, begin + view.count()};
  }

  double dropout_rate = 0.0;

 private:
  Tensor integers(std::int64_t batch, std::int64_t time, const std::vector<std::int32_t>& values) {
    Tensor tensor(memory_, Tag::kStaging, "tokens", DType::kInt32, {batch, time});
    ops::upload(exec_, tensor, values.data());
    return tensor;
  }
  Pass pass(std::int64_t batch, std::int64_t time) {
    config_.dropout = dropout_rate;
    return {.exec = exec_,
            .config = config_,
            .precision = precision_,
            .batch = batch,
            .time = time,
            .training = dropout_rate > 0.0,
            .seed = 3};
  }

  ModelConfig config_;
  Precision precision_;
  HostUpstream upstream_;
  CachingAllocator memory_;
  Exec exec_;
  ModelState state_;
};

}  // namespace gpt2train::test
