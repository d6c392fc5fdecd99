// The three products of a linear layer y = x w^T + b, w stored (out, in).
#pragma once

#include "gpt2train/ops/ops.h"

namespace gpt2train {

inline void linear_forward(const Exec& exec, const TensorView& y, const TensorView& x,
                           const TensorView& weight, const TensorView& bias) {
  ops::matmul(exec, {.out = y, .a = x, .b = weight, .bias = bias, .transpose_b = true});
}

// d_weight and d_bias first: they read x, which the caller can free before d_x is needed.
inline void linear_backward_weight(const Exec& exec, const TensorView& d_weight,
                                   const TensorView& d_bias, const TensorView& d_y,
                                   const TensorView& x, bool accumulate) {
  ops::matmul(exec,
              {.out = d_weight, .a = d_y, .b = x, .transpose_a = true, .accumulate = accumulate});
  if (d_bias.present()) {
    ops::bias_backward(exec, {.d_bias = d_bias, .d_out = d_y, .accumulate = accumulate});
  }
}

inline void linear_backward_input(const Exec& exec, const TensorView& d_x, const TensorView& d_y,
                                  const TensorView& weight) {
  ops::matmul(exec, {.out = d_x, .a = d_y, .b = weight});
}

}  // namespace gpt2train
