// Causal multi-head attention, flash style (Dao et al. 2022): online softmax over tiles of keys, so
// no T x T matrix is ever stored. Scale is 1 / sqrt(head size).
#pragma once

#include "gpt2train/core/rng.h"
#include "gpt2train/core/tensor_view.h"
#include "kernels/workspace.h"

namespace gpt2train {

struct AttentionForward {
  TensorView out = {};   // (B, T, C), dtype of qkv; head h holds columns [h * C/H, (h + 1) * C/H)
  TensorView lse = {};   // (B, H, T) fp32: log-sum-exp of each query's scaled scores
  TensorView qkv = {};   // (B, T, 3C): q, k, v side by side, as the projection leaves them
  int heads = 1;         // H, divides C
  Dropout dropout = {};  // of the probabilities, after the softmax
  Workspace workspace = {};
};

struct AttentionBackward {
  TensorView d_qkv = {};  // (B, T, 3C), dtype of qkv; written whole
  TensorView d_out = {};  // (B, T, C)
  TensorView out = {};    // (B, T, C) of the forward pass
  TensorView lse = {};    // (B, H, T) fp32 of the forward pass
  TensorView qkv = {};    // (B, T, 3C)
  int heads = 1;
  Dropout dropout = {};
  Workspace workspace = {};
};

}  // namespace gpt2train
