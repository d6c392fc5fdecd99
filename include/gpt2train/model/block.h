// One transformer block of GPT-2: x + attention(norm(x)), then that plus mlp(norm(that)).
#pragma once

#include <cstdint>

#include "gpt2train/memory/tensor.h"
#include "gpt2train/model/parameters.h"
#include "gpt2train/model/pass.h"

namespace gpt2train {

// What the backward pass reads. What the level of recomputation drops is absent, and computed
// again.
struct BlockSaved {
  Tensor x = {};                                  // (B, T, C): the block's input
  Tensor ln1 = {}, ln1_mean = {}, ln1_rstd = {};  // (B, T, C), (B, T), (B, T)
  Tensor qkv = {}, attention = {}, lse = {};      // (B, T, 3C), (B, T, C), (B, H, T)
  Tensor mid = {};                                // (B, T, C): the stream after attention
  Tensor ln2 = {}, ln2_mean = {}, ln2_rstd = {};  // (B, T, C), (B, T), (B, T)
  Tensor fc = {}, gelu = {};                      // (B, T, 4C) each
};

// Returns the block's output (B, T, C). `saved`, when given, receives what pass.recompute_in(layer)
// keeps, x included; without it (evaluation) everything but the output is freed on the way.
Tensor block_forward(const Pass& pass, const BlockTensors& weights, std::int64_t layer, Tensor x,
                     BlockSaved* saved);

// d_y (B, T, C) enters holding the gradient of the block's output and leaves holding that of its
// input. Consumes `saved`, freeing each tensor after its last use. `accumulate`: add to
// `gradients`.
void block_backward(const Pass& pass, const BlockTensors& weights, const BlockTensors& gradients,
                    std::int64_t layer, BlockSaved saved, const TensorView& d_y, bool accumulate);

}  // namespace gpt2train
