// The whole of GPT-2, forward and backward, for any backend: what trains and what the dry run
// measures are the same lines.
#pragma once

#include "gpt2train/model/head.h"
#include "gpt2train/model/parameters.h"
#include "gpt2train/model/pass.h"

namespace gpt2train {

// The final norm's output (B, T, C); nothing is kept for a backward pass. tokens (B, T) int32.
Tensor forward(const Pass& pass, const ModelTensors& weights, const TensorView& tokens);

// losses (B * T) fp32: each position's cross-entropy, without gradients.
void forward_loss(const Pass& pass, const HeadMode& head, const ModelTensors& weights,
                  const TensorView& tokens, const TensorView& targets, const TensorView& losses);

// And the gradients of scale * sum(losses), written to or added to `gradients` (fp32).
void forward_backward(const Pass& pass, const HeadMode& head, const ModelTensors& weights,
                      const ModelTensors& gradients, const TensorView& tokens,
                      const TensorView& targets, const TensorView& losses, float scale,
                      bool accumulate);

}  // namespace gpt2train
