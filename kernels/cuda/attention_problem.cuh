// What every attention kernel knows of a call, for 16-bit types and for fp32.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {

inline constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

// Rows of one head in a packed (B, T, ...) tensor.
template <class T>
struct HeadRows {
  T* first;             // row 0 of this sample and head
  std::int64_t stride;  // elements from row to row

  __device__ T* row(int index) const { return first + index * stride; }
};

// A sample and a head: a block works on one.
struct Head {
  int batch, head;
};

template <class T>
struct AttentionProblem {
  const T* qkv;
  int batch, time, heads, head_size;
  std::int64_t width;
  float scale;   // 1 / sqrt(head_size)
  bool aligned;  // rows of a head begin at multiples of 16 bytes, and so does every eighth element
  Dropout dropout;
  float keep;  // what dropout multiplies by where it keeps

  // blockIdx.y counts the heads of all samples.
  __device__ Head this_head() const {
    return {static_cast<int>(blockIdx.y) / heads, static_cast<int>(blockIdx.y) % heads};
  }
  // Of a (B, T, 3C) tensor: which is 0 for q, 1 for k, 2 for v.
  template <class U>
  __device__ HeadRows<U> packed(U* tensor, int which, Head h) const {
    return {tensor + std::int64_t{h.batch} * time * 3 * width + which * width + h.head * head_size,
            3 * width};
  }
  // Of a (B, T, C) tensor.
  template <class U>
  __device__ HeadRows<U> plain(U* tensor, Head h) const {
    return {tensor + std::int64_t{h.batch} * time * width + h.head * head_size, width};
  }
  // Of a (B, H, T) tensor.
  __device__ std::int64_t statistics(Head h) const {
    return (std::int64_t{h.batch} * heads + h.head) * time;
  }
  // The factor on one probability, where dropout is active.
  __device__ float drop(Head h, int query, int key) const {
    return dropout_factor(dropout, static_cast<std::uint32_t>(h.batch),
                          (std::int64_t{h.head} * time + query) * time + key);
  }
  __device__ float factor(Head h, int query, int key) const {
    return dropout.active() ? drop(h, query, key) : 1.0f;
  }
};

template <class T, class Args>
AttentionProblem<T> problem_of(const Args& a) {
  const std::int64_t width = a.qkv.width() / 3;
  const int head_size = static_cast<int>(width / a.heads);
  return {.qkv = a.qkv.template as<T>(),
          .batch = static_cast<int>(a.qkv.shape[0]),
          .time = static_cast<int>(a.qkv.shape[1]),
          .heads = a.heads,
          .head_size = head_size,
          .width = width,
          .scale = 1.0f / std::sqrt(static_cast<float>(head_size)),
          .aligned = head_size % 8 == 0,
          .dropout = a.dropout,
          .keep = 1.0f / (1.0f - a.dropout.rate)};
}

// A block has `rows` rows of one head.
template <class T>
Launch attention_launch(const AttentionProblem<T>& p, int rows, int threads,
                        std::size_t shared_bytes, Stream stream) {
  return {.grid = {blocks_for(p.time, rows), static_cast<unsigned>(p.batch * p.heads)},
          .block = {static_cast<unsigned>(threads)},
          .shared_bytes = shared_bytes,
          .stream = stream};
}

// In fp32 throughout (attention_fp32.cu): the tensor cores have no such product.
void attention_forward_fp32(const AttentionForward& args, Stream stream);
void attention_backward_fp32(const AttentionBackward& args, const float* dots, Stream stream);

}  // namespace gpt2train::cuda
