// Softmax cross-entropy over rows of logits, with the gradient written in place of them.
#pragma once

#include "gpt2train/core/tensor_view.h"

namespace gpt2train {

struct CrossEntropy {
  TensorView logits = {};  // (rows, Vp), float type; with write_gradient replaced by
                           // scale * (softmax - one_hot), 0 in padded columns and ignored rows
  TensorView losses =
      {};  // (rows) fp32: -log softmax[target], 0 where the target is negative (ignored)
  TensorView targets = {};  // (rows) int32, below vocab
  std::int64_t vocab = 0;   // columns [vocab, Vp) are padding: they never enter the softmax
  float scale = 1.0f;
  bool write_gradient = false;
};

// cell[0] = or += scale * sum(losses), summed in double in a fixed order.
struct LossSum {
  TensorView cell = {};    // (1) fp32
  TensorView losses = {};  // (n) fp32
  float scale = 1.0f;
  bool accumulate = false;
};

}  // namespace gpt2train
