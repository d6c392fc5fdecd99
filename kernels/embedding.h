// Token plus position embedding with dropout (GPT-2), and the gradients of both tables.
#pragma once

#include "gpt2train/core/rng.h"
#include "gpt2train/core/tensor_view.h"
#include "kernels/workspace.h"

namespace gpt2train {

struct EmbeddingForward {
  TensorView out = {};             // (B, T, C), float type
  TensorView tokens = {};          // (B, T) int32, each in [0, rows of token_table)
  TensorView token_table = {};     // (Vp, C), dtype of out
  TensorView position_table = {};  // (block_size, C), dtype of out; rows 0..T-1 are read
  Dropout dropout = {};
};

// Deterministic: each row of a table is summed by one thread, in the order of the tokens.
struct EmbeddingBackward {
  TensorView d_token_table = {};  // (Vp, C) fp32; always added to: the tied head writes it first
  TensorView d_position_table =
      {};                   // (block_size, C) fp32; added to, or overwritten (rows past T by 0)
  TensorView d_out = {};    // (B, T, C), float type
  TensorView tokens = {};   // (B, T) int32
  Dropout dropout = {};     // as in the forward pass
  bool accumulate = false;  // for d_position_table
  Workspace workspace = {};
};

}  // namespace gpt2train
