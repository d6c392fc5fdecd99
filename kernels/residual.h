// The residual addition with dropout of its branch, where no LayerNorm follows to fuse it with.
#pragma once

#include "gpt2train/core/rng.h"
#include "gpt2train/core/tensor_view.h"

namespace gpt2train {

// out = in + dropout(branch)
struct ResidualForward {
  TensorView out = {};     // (rows, width); may alias in or branch
  TensorView in = {};      // (rows, width)
  TensorView branch = {};  // (rows, width)
  Dropout dropout = {};
  std::int64_t time = 1;  // T, so that dropout knows a row's sample
};

// out = dropout(in): the branch's gradient from the sum's, with the forward pass's mask. Called
// only when dropout is active; without it the two are the same tensor.
struct DropoutBackward {
  TensorView out = {};  // (rows, width); may alias in
  TensorView in = {};   // (rows, width)
  Dropout dropout = {};
  std::int64_t time = 1;
};

}  // namespace gpt2train
