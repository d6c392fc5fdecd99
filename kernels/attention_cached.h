// Causal attention of new tokens over all tokens so far, whose keys and values are kept in a cache:
// a token of a text that grows costs one row of scores. Nothing is dropped and no statistics are
// left, so it is for inference alone.
#pragma once

#include <cstdint>

#include "gpt2train/core/tensor_view.h"

namespace gpt2train {

struct AttentionCached {
  TensorView out = {};  // (B, T, C), dtype of qkv; head h holds columns [h * C/H, (h + 1) * C/H)
  TensorView k = {};    // (B, capacity, C), dtype of qkv: rows below `position` are read,
  TensorView v = {};    // the T rows from there on written, the others left alone
  TensorView qkv = {};  // (B, T, 3C) of the tokens at position, position + 1, ...
  std::int64_t position = 0;  // tokens of each sequence that are in the cache; + T <= capacity
  int heads = 1;              // H, divides C
};

}  // namespace gpt2train
