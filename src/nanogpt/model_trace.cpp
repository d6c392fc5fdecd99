#include "src/nanogpt/model_trace.h"

namespace gpt2train {
namespace {

LayerNorm layer_norm(std::int64_t width, bool bias) {
  return {.weight = {.rows = width}, .bias = {.rows = bias ? width : 0}};
}

Linear linear(std::int64_t out, std::int64_t in, bool bias) {
  return {.weight = {.rows = out, .columns = in}, .bias = {.rows = bias ? out : 0}};
}

}  // namespace

ModelTrace::ModelTrace(TorchDevice& device, const NanogptRun& run)
    : device_(device),
      config_(run.model),
      B_(run.batch_size),
      T_(config_.block_size),
      C_(config_.n_embd),
      H_(config_.n_head),
      V_(config_.vocab_size),
      rows_(B_ * T_),
      type_{name_of(run.dtype), size_of(run.dtype)},
      wte_{.rows = V_, .columns = C_},
      wpe_{.rows = T_, .columns = C_},
      ln_f_(layer_norm(C_, config_.bias)),
      cublas_workspace_bytes_(run.cublas_workspace_bytes) {
  for (std::int64_t layer = 0; layer < config_.n_layer; ++layer) {
    blocks_.push_back({.ln_1 = layer_norm(C_, config_.bias),
                       .c_attn = linear(3 * C_, C_, config_.bias),
                       .attn_c_proj = linear(C_, C_, config_.bias),
                       .ln_2 = layer_norm(C_, config_.bias),
                       .c_fc = linear(4 * C_, C_, config_.bias),
                       .mlp_c_proj = linear(C_, 4 * C_, config_.bias)});
  }
  for (TorchParameter* p : parameters()) p->value = like("parameter", *p, kFloatType);
}

std::vector<TorchParameter*> ModelTrace::parameters() {
  std::vector<TorchParameter*> all = {&wte_, &wpe_};
  const auto add = [&](auto& module) {
    all.push_back(&module.weight);
    if (module.bias.rows > 0) all.push_back(&module.bias);
  };
  for (TransformerBlock& block : blocks_) {
    add(block.ln_1);
    add(block.c_attn);
    add(block.attn_c_proj);
    add(block.ln_2);
    add(block.c_fc);
    add(block.mlp_c_proj);
  }
  add(ln_f_);
  return all;
}

TorchTensor ModelTrace::like(const char* name, const TorchParameter& parameter, TorchType type) {
  if (!parameter.matrix()) return device_.tensor(name, {parameter.rows}, type);
  return device_.tensor(name, {parameter.rows, parameter.columns}, type);
}

void ModelTrace::before_product() {
  if (cublas_workspace_.exists() || cublas_workspace_bytes_ == 0) return;
  cublas_workspace_ = device_.tensor(
      "cublas_workspace", {static_cast<std::int64_t>(cublas_workspace_bytes_)}, kByteType);
}

void ModelTrace::cast(TorchParameter& parameter) {
  if (!autocast() || parameter.half.exists() || parameter.rows == 0) return;
  parameter.half = like("autocast_weight", parameter, type_);
}

void ModelTrace::cast(Linear& linear) {
  cast(linear.weight);
  cast(linear.bias);
}

void ModelTrace::optimizer_step() {
  const std::vector<TorchParameter*> all = parameters();
  {
    const TorchTensor norms =
        device_.tensor("gradient_norms", {static_cast<std::int64_t>(all.size())}, kFloatType);
  }
  for (const bool decayed : {true, false}) {  // the optimizer's two groups
    for (TorchParameter* p : all) {
      if (p->matrix() != decayed || p->mean.exists()) continue;
      p->step = device_.tensor("adamw_step", {1}, kFloatType);
      p->mean = like("exp_avg", *p, kFloatType);
      p->square = like("exp_avg_sq", *p, kFloatType);
    }
  }
}

void ModelTrace::drop_gradients() {
  for (TorchParameter* p : parameters()) p->gradient.free();
}

}  // namespace gpt2train
