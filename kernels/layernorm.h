// LayerNorm over the last dimension (Ba, Kiros, Hinton 2016; GPT-2 uses epsilon 1e-5), alone or
// fused with the residual addition (and its dropout) that comes before it.
#pragma once

#include "gpt2train/core/rng.h"
#include "gpt2train/core/tensor_view.h"
#include "kernels/workspace.h"

namespace gpt2train {

// sum = in + dropout(branch) when a branch is given; out = normalise(sum) * gamma + beta.
struct LayerNormForward {
  TensorView out = {};     // (rows, width), dtype of `in`
  TensorView mean = {};    // (rows) fp32
  TensorView rstd = {};    // (rows) fp32, 1 / sqrt(variance + epsilon)
  TensorView in = {};      // (rows, width)
  TensorView branch = {};  // (rows, width), or absent
  TensorView sum = {};     // (rows, width), given exactly with branch; may alias in or branch
  TensorView gamma = {};   // (width), dtype of `in`
  TensorView beta = {};    // (width), dtype of `in`, or absent: no bias
  Dropout dropout = {};    // of branch; samples are rows / time consecutive rows
  std::int64_t time = 1;   // T, so that dropout knows a row's sample
  float epsilon = 1e-5f;
};

// d_in += gradient through the normalisation: d_in enters holding the residual's own gradient.
struct LayerNormBackward {
  TensorView d_in = {};         // (rows, width), dtype of `in`; added to
  TensorView d_gamma = {};      // (width) fp32
  TensorView d_beta = {};       // (width) fp32, or absent: no bias
  TensorView d_out = {};        // (rows, width), dtype of `in`; may not alias d_in
  TensorView in = {};           // (rows, width): what was normalised
  TensorView mean = {};         // (rows) fp32
  TensorView rstd = {};         // (rows) fp32
  TensorView gamma = {};        // (width), dtype of `in`
  bool accumulate = false;      // for d_gamma and d_beta
  bool overwrite_d_in = false;  // d_in = instead of +=: the last norm has no residual
  Workspace workspace = {};
};

// out = normalise(in) * gamma + beta from saved statistics: recomputation without reductions.
struct LayerNormRecompute {
  TensorView out = {};    // (rows, width), dtype of `in`
  TensorView in = {};     // (rows, width)
  TensorView mean = {};   // (rows) fp32
  TensorView rstd = {};   // (rows) fp32
  TensorView gamma = {};  // (width), dtype of `in`
  TensorView beta = {};   // (width), or absent
};

}  // namespace gpt2train
