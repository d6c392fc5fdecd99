// Matrix product: out = op(a) op(b) + bias, or out += op(a) op(b). The three products of a linear
// layer y = x w^T + b with w stored (out, in):
//   forward   y   = x  w^T   transpose_b
//   input     d_x = d_y w
//   weight    d_w = d_y^T x  transpose_a, usually accumulated
#pragma once

#include "gpt2train/core/tensor_view.h"
#include "kernels/workspace.h"

namespace gpt2train {

// Tensors of more than two dimensions count as (rows, width). Sums are fp32 whatever the dtypes.
struct Matmul {
  TensorView out = {};   // (m, n), dtype of a and b, or fp32; aliases nothing
  TensorView a = {};     // (m, k), or (k, m) when transpose_a
  TensorView b = {};     // (k, n), or (n, k) when transpose_b; dtype of a
  TensorView bias = {};  // (n), dtype of a, or absent; not with accumulate
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;  // out += product
  bool tune = false;        // choose the fastest way by trying, where there are several
  bool tf32 = false;        // fp32 factors may be rounded to TF32's 11 bits, where there is TF32
  Workspace workspace = {};
};

// d_bias[j] (+)= sum over rows of d_out[., j], in a fixed order of fp32 sums.
struct BiasBackward {
  TensorView d_bias = {};  // (n) fp32
  TensorView d_out = {};   // (rows, n), float type
  bool accumulate = false;
  Workspace workspace = {};
};

}  // namespace gpt2train
