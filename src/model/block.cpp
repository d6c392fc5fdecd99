#include "gpt2train/model/block.h"

#include <utility>

#include "gpt2train/ops/ops.h"
#include "src/model/linear.h"

namespace gpt2train {
namespace {

void attend(const Pass& pass, std::int64_t layer, BlockSaved& s) {
  const int heads = static_cast<int>(pass.config.n_head);
  s.attention = pass.activation("attention", pass.config.n_embd);
  if (pass.cache != nullptr) {
    const auto l = static_cast<std::size_t>(layer);
    return ops::attention_cached(pass.exec, {.out = s.attention,
                                             .k = pass.cache->k[l],
                                             .v = pass.cache->v[l],
                                             .qkv = s.qkv,
                                             .position = pass.cache->position,
                                             .heads = heads});
  }
  s.lse = pass.statistic("lse", {pass.batch, pass.config.n_head, pass.time});
  ops::attention_forward(pass.exec, {.out = s.attention,
                                     .lse = s.lse,
                                     .qkv = s.qkv,
                                     .heads = heads,
                                     .dropout = pass.dropout(RandomUse::kDropoutAttention, layer)});
}

// Up to and including `fc`: all that the backward pass reads, GELU's output apart.
void forward_to_fc(const Pass& pass, const BlockTensors& w, std::int64_t layer, BlockSaved& s) {
  const Exec& exec = pass.exec;
  const std::int64_t C = pass.config.n_embd;
  const Shape per_token = {pass.batch, pass.time};

  s.ln1 = pass.activation("ln1", C);
  s.ln1_mean = pass.statistic("ln1_mean", per_token);
  s.ln1_rstd = pass.statistic("ln1_rstd", per_token);
  ops::layernorm_forward(exec, {.out = s.ln1,
                                .mean = s.ln1_mean,
                                .rstd = s.ln1_rstd,
                                .in = s.x,
                                .gamma = w.ln1_gamma,
                                .beta = w.ln1_beta});
  s.qkv = pass.activation("qkv", 3 * C);
  linear_forward(exec, s.qkv, s.ln1, w.qkv_weight, w.qkv_bias);
  attend(pass, layer, s);

  const Tensor projected = pass.activation("attention_projection", C);
  linear_forward(exec, projected, s.attention, w.proj_weight, w.proj_bias);
  s.mid = pass.activation("mid", C);
  s.ln2 = pass.activation("ln2", C);
  s.ln2_mean = pass.statistic("ln2_mean", per_token);
  s.ln2_rstd = pass.statistic("ln2_rstd", per_token);
  ops::layernorm_forward(exec,
                         {.out = s.ln2,
                          .mean = s.ln2_mean,
                          .rstd = s.ln2_rstd,
                          .in = s.x,
                          .branch = projected,
                          .sum = s.mid,
                          .gamma = w.ln2_gamma,
                          .beta = w.ln2_beta,
                          .dropout = pass.dropout(RandomUse::kDropoutAttentionResidual, layer),
                          .time = pass.time});
  s.fc = pass.activation("fc", 4 * C);
  linear_forward(exec, s.fc, s.ln2, w.fc_weight, w.fc_bias);
}

void recompute_layernorm(const Pass& pass, Tensor& out, const char* name, const TensorView& in,
                         const TensorView& mean, const TensorView& rstd, const TensorView& gamma,
                         const TensorView& beta) {
  if (out.present()) return;
  out = pass.activation(name, pass.config.n_embd);
  ops::layernorm_recompute(
      pass.exec, {.out = out, .in = in, .mean = mean, .rstd = rstd, .gamma = gamma, .beta = beta});
}

// The gradient of a residual branch: that of the sum itself, unless dropout masked the branch.
// `buffer` holds the masked one.
TensorView branch_gradient(const Pass& pass, const TensorView& d_sum, RandomUse use,
                           std::int64_t layer, Tensor& buffer) {
  const Dropout dropout = pass.dropout(use, layer);
  if (!dropout.active()) return d_sum;
  buffer = pass.activation("d_branch", pass.config.n_embd);
  ops::dropout_backward(pass.exec,
                        {.out = buffer, .in = d_sum, .dropout = dropout, .time = pass.time});
  return buffer;
}

// d_y enters as the gradient of the block's output and leaves as that of `mid`.
void mlp_backward(const Pass& pass, const BlockTensors& w, const BlockTensors& g,
                  std::int64_t layer, BlockSaved& s, const TensorView& d_y, bool accumulate) {
  const Exec& exec = pass.exec;
  const std::int64_t C = pass.config.n_embd;

  if (!s.gelu.present()) {
    s.gelu = pass.activation("gelu", 4 * C);
    ops::gelu_forward(exec, {.out = s.gelu, .in = s.fc, .form = pass.config.gelu});
  }
  Tensor masked;
  const TensorView d_branch =
      branch_gradient(pass, d_y, RandomUse::kDropoutMlpResidual, layer, masked);
  linear_backward_weight(exec, g.out_weight, g.out_bias, d_branch, s.gelu, accumulate);
  s.gelu.reset();
  Tensor d_fc = pass.activation("d_fc", 4 * C);
  linear_backward_input(exec, d_fc, d_branch, w.out_weight);
  masked.reset();
  ops::gelu_backward(exec, {.d_in = d_fc, .d_out = d_fc, .in = s.fc, .form = pass.config.gelu});
  s.fc.reset();

  recompute_layernorm(pass, s.ln2, "ln2", s.mid, s.ln2_mean, s.ln2_rstd, w.ln2_gamma, w.ln2_beta);
  linear_backward_weight(exec, g.fc_weight, g.fc_bias, d_fc, s.ln2, accumulate);
  s.ln2.reset();
  const Tensor d_ln2 = pass.activation("d_ln2", C);
  linear_backward_input(exec, d_ln2, d_fc, w.fc_weight);
  d_fc.reset();
  ops::layernorm_backward(exec, {.d_in = d_y,
                                 .d_gamma = g.ln2_gamma,
                                 .d_beta = g.ln2_beta,
                                 .d_out = d_ln2,
                                 .in = s.mid,
                                 .mean = s.ln2_mean,
                                 .rstd = s.ln2_rstd,
                                 .gamma = w.ln2_gamma,
                                 .accumulate = accumulate});
  s.mid.reset();
}

// d_y enters as the gradient of `mid` and leaves as that of x.
void attention_half_backward(const Pass& pass, const BlockTensors& w, const BlockTensors& g,
                             std::int64_t layer, BlockSaved& s, const TensorView& d_y,
                             bool accumulate) {
  const Exec& exec = pass.exec;
  const std::int64_t C = pass.config.n_embd;

  Tensor masked;
  const TensorView d_branch =
      branch_gradient(pass, d_y, RandomUse::kDropoutAttentionResidual, layer, masked);
  linear_backward_weight(exec, g.proj_weight, g.proj_bias, d_branch, s.attention, accumulate);
  Tensor d_attention = pass.activation("d_attention", C);
  linear_backward_input(exec, d_attention, d_branch, w.proj_weight);
  masked.reset();
  Tensor d_qkv = pass.activation("d_qkv", 3 * C);
  ops::attention_backward(exec, {.d_qkv = d_qkv,
                                 .d_out = d_attention,
                                 .out = s.attention,
                                 .lse = s.lse,
                                 .qkv = s.qkv,
                                 .heads = static_cast<int>(pass.config.n_head),
                                 .dropout = pass.dropout(RandomUse::kDropoutAttention, layer)});
  d_attention.reset();
  s.attention.reset();
  s.lse.reset();
  s.qkv.reset();

  recompute_layernorm(pass, s.ln1, "ln1", s.x, s.ln1_mean, s.ln1_rstd, w.ln1_gamma, w.ln1_beta);
  linear_backward_weight(exec, g.qkv_weight, g.qkv_bias, d_qkv, s.ln1, accumulate);
  s.ln1.reset();
  const Tensor d_ln1 = pass.activation("d_ln1", C);
  linear_backward_input(exec, d_ln1, d_qkv, w.qkv_weight);
  ops::layernorm_backward(exec, {.d_in = d_y,
                                 .d_gamma = g.ln1_gamma,
                                 .d_beta = g.ln1_beta,
                                 .d_out = d_ln1,
                                 .in = s.x,
                                 .mean = s.ln1_mean,
                                 .rstd = s.ln1_rstd,
                                 .gamma = w.ln1_gamma,
                                 .accumulate = accumulate});
}

}  // namespace

Tensor block_forward(const Pass& pass, const BlockTensors& weights, std::int64_t layer, Tensor x,
                     BlockSaved* saved) {
  const Scope scope(pass.exec, concat("block ", layer));
  const std::int64_t C = pass.config.n_embd;
  const Recompute recompute = pass.recompute_in(layer);
  const bool keep_intermediates = saved != nullptr && recompute != Recompute::kBlock;

  BlockSaved s;
  s.x = std::move(x);
  forward_to_fc(pass, weights, layer, s);
  if (!keep_intermediates) {
    BlockSaved rest{.x = std::move(s.x), .mid = std::move(s.mid), .fc = std::move(s.fc)};
    s = std::move(rest);
  } else if (recompute == Recompute::kGeluLayerNorm) {
    s.ln1.reset();
    s.ln2.reset();
  }

  if (keep_intermediates) s.gelu = pass.activation("gelu", 4 * C);
  const TensorView gelu = keep_intermediates ? s.gelu.view() : s.fc.view();  // in place otherwise
  ops::gelu_forward(pass.exec, {.out = gelu, .in = s.fc, .form = pass.config.gelu});
  Tensor y = pass.activation("residual", C);
  linear_forward(pass.exec, y, gelu, weights.out_weight, weights.out_bias);
  ops::residual_forward(pass.exec, {.out = y,
                                    .in = s.mid,
                                    .branch = y,
                                    .dropout = pass.dropout(RandomUse::kDropoutMlpResidual, layer),
                                    .time = pass.time});
  if (!keep_intermediates) {
    s.mid.reset();
    s.fc.reset();
  } else if (recompute != Recompute::kNone) {
    s.gelu.reset();
  }
  if (saved != nullptr) *saved = std::move(s);
  return y;
}

void block_backward(const Pass& pass, const BlockTensors& weights, const BlockTensors& gradients,
                    std::int64_t layer, BlockSaved saved, const TensorView& d_y, bool accumulate) {
  const Scope scope(pass.exec, concat("block ", layer, " backward"));
  if (pass.recompute_in(layer) == Recompute::kBlock) forward_to_fc(pass, weights, layer, saved);
  mlp_backward(pass, weights, gradients, layer, saved, d_y, accumulate);
  attention_half_backward(pass, weights, gradients, layer, saved, d_y, accumulate);
}

}  // namespace gpt2train
