// Causal multi-head attention, flash style (Dao et al. 2022): online softmax over tiles of keys, so
// no T x T matrix is ever stored. Scale is 1 / sqrt(head size).
#pragma once

#include <compare>
#include <cstdint>

#include "gpt2train/core/rng.h"
#include "gpt2train/core/tensor_view.h"
#include "kernels/workspace.h"

namespace gpt2train {

// Whose kernels compute it: this program's, cuDNN's, or cuDNN's wherever they can be had.
enum class Attention : std::uint8_t { kNative, kCudnn, kAuto };

struct AttentionShape {
  std::int64_t batch = 1, heads = 1, time = 1, head_size = 1;  // B, H, T, C / H
  DType dtype = DType::kFloat32;                               // of q, k and v

  auto operator<=>(const AttentionShape&) const = default;
};

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

template <class Args>
AttentionShape shape_of(const Args& args) {
  return {.batch = args.qkv.shape[0],
          .heads = args.heads,
          .time = args.qkv.shape[1],
          .head_size = args.qkv.width() / 3 / args.heads,
          .dtype = args.qkv.dtype};
}

}  // namespace gpt2train
