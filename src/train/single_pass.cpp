#include "gpt2train/train/single_pass.h"

#include "gpt2train/ops/ops.h"

namespace gpt2train {

SinglePass::SinglePass(const KernelTable& kernels, Upstream& upstream, const ModelConfig& config,
                       DType dtype, Stream stream)
    : config_(config),
      precision_{.compute = dtype},
      memory_(upstream, CachingAllocator::kNoBudget),
      exec_(kernels, memory_, Compute::kRun, stream),
      state_(exec_, config_, precision_, Purpose::kTraining) {}

void SinglePass::set_dropout(double rate, std::uint64_t dropout_seed) {
  config_.dropout = rate;
  dropout_seed_ = dropout_seed;
}

Tensor SinglePass::upload(std::int64_t batch, const std::vector<std::int32_t>& tokens) {
  Tensor tensor(memory_, Tag::kStaging, "tokens", DType::kInt32,
                {batch, std::ssize(tokens) / batch});
  ops::upload(exec_, tensor, tokens.data());
  return tensor;
}

Pass SinglePass::pass(const TensorView& tokens) const {
  return {.exec = exec_,
          .config = config_,
          .precision = precision_,
          .batch = tokens.shape[0],
          .time = tokens.shape[1],
          .training = config_.dropout > 0.0,
          .seed = dropout_seed_};
}

float SinglePass::loss_and_gradients(std::int64_t batch, const std::vector<std::int32_t>& inputs,
                                     const std::vector<std::int32_t>& targets, float scale,
                                     bool accumulate) {
  const Tensor tokens = upload(batch, inputs), wanted = upload(batch, targets);
  const Tensor losses(memory_, Tag::kActivations, "losses", DType::kFloat32, {std::ssize(inputs)});
  forward_backward(pass(tokens), {}, state_.weights(), state_.gradients(), tokens, wanted, losses,
                   scale, accumulate);
  ops::loss_sum(
      exec_,
      {.cell = state_.loss_cell(), .losses = losses, .scale = scale, .accumulate = accumulate});
  float loss = 0.0f;
  ops::download(exec_, &loss, state_.loss_cell());
  return loss;
}

std::vector<float> SinglePass::logits(std::int64_t batch, const std::vector<std::int32_t>& inputs) {
  const Tensor tokens = upload(batch, inputs);
  const Tensor x = forward(pass(tokens), state_.weights(), tokens);
  const Tensor out = head_logits(pass(tokens), x, state_.weights().wte);
  const Tensor wide(memory_, Tag::kLogits, "logits_fp32", DType::kFloat32, out.view().shape);
  ops::cast(exec_, {.out = wide, .in = out});
  std::vector<float> padded(static_cast<std::size_t>(wide.view().count()));
  ops::download(exec_, padded.data(), wide);
  std::vector<float> values;
  for (std::int64_t row = 0; row < wide.view().rows(); ++row) {
    const auto begin = padded.begin() + row * wide.view().width();
    values.insert(values.end(), begin, begin + config_.vocab_size);
  }
  return values;
}

std::vector<float> SinglePass::gradient(const Parameter& parameter) const {
  const TensorView view = state_.layout().view(state_.flat_gradients(), parameter);
  std::vector<float> values(static_cast<std::size_t>(view.count()));
  ops::download(exec_, values.data(), view);
  return values;
}

}  // namespace gpt2train
