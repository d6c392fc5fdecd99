#include "gpt2train/model/gpt2.h"

#include <utility>
#include <vector>

#include "gpt2train/model/block.h"
#include "gpt2train/ops/ops.h"

namespace gpt2train {
namespace {

Tensor embed(const Pass& pass, const ModelTensors& weights, const TensorView& tokens) {
  Tensor x = pass.activation("residual", pass.config.n_embd);
  const std::int64_t before = pass.cache != nullptr ? pass.cache->position : 0;
  const TensorView& wpe = weights.wpe;
  ops::embedding_forward(pass.exec, {.out = x,
                                     .tokens = tokens,
                                     .token_table = weights.wte,
                                     .position_table = wpe.slice_rows(before, wpe.rows() - before),
                                     .dropout = pass.dropout(RandomUse::kDropoutEmbedding, 0)});
  return x;
}

struct FinalNorm {
  Tensor out, mean, rstd;
};

FinalNorm final_norm(const Pass& pass, const ModelTensors& weights, const TensorView& x) {
  FinalNorm norm{.out = pass.activation("ln_f", pass.config.n_embd),
                 .mean = pass.statistic("ln_f_mean", {pass.batch, pass.time}),
                 .rstd = pass.statistic("ln_f_rstd", {pass.batch, pass.time})};
  ops::layernorm_forward(pass.exec, {.out = norm.out,
                                     .mean = norm.mean,
                                     .rstd = norm.rstd,
                                     .in = x,
                                     .gamma = weights.lnf_gamma,
                                     .beta = weights.lnf_beta});
  return norm;
}

}  // namespace

Tensor forward(const Pass& pass, const ModelTensors& weights, const TensorView& tokens) {
  Tensor x = embed(pass, weights, tokens);
  for (std::size_t l = 0; l < weights.blocks.size(); ++l) {
    x = block_forward(pass, weights.blocks[l], static_cast<std::int64_t>(l), std::move(x), nullptr);
  }
  return final_norm(pass, weights, x).out;
}

void forward_loss(const Pass& pass, const HeadMode& head, const ModelTensors& weights,
                  const TensorView& tokens, const TensorView& targets, const TensorView& losses) {
  const Tensor x = forward(pass, weights, tokens);
  head_loss(pass, head, losses, x, weights.wte, targets);
}

void forward_backward(const Pass& pass, const HeadMode& head, const ModelTensors& weights,
                      const ModelTensors& gradients, const TensorView& tokens,
                      const TensorView& targets, const TensorView& losses, float scale,
                      bool accumulate) {
  const auto layers = static_cast<std::int64_t>(weights.blocks.size());
  std::vector<BlockSaved> saved(weights.blocks.size());

  Tensor x = embed(pass, weights, tokens);
  for (std::int64_t l = 0; l < layers; ++l) {
    x = block_forward(pass, weights.blocks[l], l, std::move(x), &saved[l]);
  }

  Tensor d_x = pass.activation("d_residual", pass.config.n_embd);
  {
    const FinalNorm norm = final_norm(pass, weights, x);
    const Tensor d_norm = pass.activation("d_ln_f", pass.config.n_embd);
    head_loss_backward(pass, head, losses, d_norm, gradients.wte, norm.out, weights.wte, targets,
                       scale, accumulate);
    ops::layernorm_backward(pass.exec, {.d_in = d_x,
                                        .d_gamma = gradients.lnf_gamma,
                                        .d_beta = gradients.lnf_beta,
                                        .d_out = d_norm,
                                        .in = x,
                                        .mean = norm.mean,
                                        .rstd = norm.rstd,
                                        .gamma = weights.lnf_gamma,
                                        .accumulate = accumulate,
                                        .overwrite_d_in = true});
    x.reset();
  }

  for (std::int64_t l = layers; l-- > 0;) {
    block_backward(pass, weights.blocks[l], gradients.blocks[l], l, std::move(saved[l]), d_x,
                   accumulate);
  }
  ops::embedding_backward(pass.exec, {.d_token_table = gradients.wte,
                                      .d_position_table = gradients.wpe,
                                      .d_out = d_x,
                                      .tokens = tokens,
                                      .dropout = pass.dropout(RandomUse::kDropoutEmbedding, 0),
                                      .accumulate = accumulate});
}

}  // namespace gpt2train
