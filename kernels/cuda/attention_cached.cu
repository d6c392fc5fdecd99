// A block has one query of one head. Its warps take the keys in turn, each with an online softmax
// of its own (Dao et al. 2022), and are put together at the end. Keys and values of the call's own
// tokens are read from qkv, so the cache is written by the same launch.
#include "kernels/attention_cached.h"

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kBlock = kWarps * kWarp;
constexpr int kLaneColumns = 4;  // every 32nd of a head
constexpr int kMaxHead = kLaneColumns * kWarp;

template <class T>
struct Problem {
  T* out;
  T* k;
  T* v;
  const T* qkv;
  int position, time, heads, head_size;
  std::int64_t capacity, width;
  float scale;  // 1 / sqrt(head_size)
};

// A lane's columns of a row of a head; zeros past its end.
template <class T>
__device__ __forceinline__ void load_columns(float (&to)[kLaneColumns], const T* row,
                                             int head_size) {
#pragma unroll
  for (int i = 0; i < kLaneColumns; ++i) {
    const int column = lane_index() + i * kWarp;
    to[i] = column < head_size ? widen(row[column]) : 0.0f;
  }
}

template <class T>
__global__ void __launch_bounds__(kBlock) attention_cached_kernel(Problem<T> p) {
  GPU_SHARED(float, largest_of, kWarps);
  GPU_SHARED(float, sum_of, kWarps);
  GPU_SHARED(float, sums_of, kWarps* kMaxHead);
  const int t = static_cast<int>(gridDim.x - 1 - blockIdx.x);  // the longest rows first
  const std::int64_t b = blockIdx.y / static_cast<unsigned>(p.heads);
  const std::int64_t first_column =
      std::int64_t{blockIdx.y % static_cast<unsigned>(p.heads)} * p.head_size;
  const T* const fresh = p.qkv + b * p.time * 3 * p.width + first_column;
  T* const k = p.k + b * p.capacity * p.width + first_column;
  T* const v = p.v + b * p.capacity * p.width + first_column;
  const int last = p.position + t;

  float q[kLaneColumns];
  load_columns(q, fresh + std::int64_t{t} * 3 * p.width, p.head_size);
  float sums[kLaneColumns] = {};
  float largest = -INFINITY, sum = 0.0f;
  for (int key = warp_index(); key <= last; key += kWarps) {
    const T* k_row = k + key * p.width;
    const T* v_row = v + key * p.width;
    if (key >= p.position) {
      k_row = fresh + (std::int64_t{key - p.position} * 3 + 1) * p.width;
      v_row = k_row + p.width;
    }
    float x[kLaneColumns], score = 0.0f;
    load_columns(x, k_row, p.head_size);
#pragma unroll
    for (int i = 0; i < kLaneColumns; ++i) score += q[i] * x[i];
    score = p.scale * warp_sum(score);
    load_columns(x, v_row, p.head_size);
    const float before = largest;
    largest = fmaxf(largest, score);
    const float correction = expf(before - largest), probability = expf(score - largest);
    sum = sum * correction + probability;
#pragma unroll
    for (int i = 0; i < kLaneColumns; ++i) sums[i] = sums[i] * correction + probability * x[i];
  }

  if (lane_index() == 0) {
    largest_of[warp_index()] = largest;
    sum_of[warp_index()] = sum;
  }
#pragma unroll
  for (int i = 0; i < kLaneColumns; ++i) {
    sums_of[warp_index() * kMaxHead + lane_index() + i * kWarp] = sums[i];
  }
  block_barrier();
  const int column = static_cast<int>(threadIdx.x);
  if (column >= p.head_size) return;
  for (int i = 0; i < kWarps; ++i) largest = fmaxf(largest, largest_of[i]);
  float total = 0.0f, value = 0.0f;
  for (int i = 0; i < kWarps; ++i) {
    const float factor = expf(largest_of[i] - largest);  // 0 of a warp that had no key
    total += factor * sum_of[i];
    value += factor * sums_of[i * kMaxHead + column];
  }
  p.out[(b * p.time + t) * p.width + first_column + column] = narrow<T>(value / total);
  const T* const own = fresh + std::int64_t{t} * 3 * p.width + column;
  k[last * p.width + column] = own[p.width];
  v[last * p.width + column] = own[2 * p.width];
}

}  // namespace

void attention_cached(const AttentionCached& a, Stream stream) {
  static_assert(kBlock == kMaxHead, "a thread has a column");
  const std::int64_t width = a.out.width(), head_size = width / a.heads;
  if (head_size > kMaxHead) {
    throw InternalError(
        concat("attention_cached: a head of ", head_size, ", expected at most ", kMaxHead));
  }
  const auto batch = static_cast<unsigned>(a.qkv.shape[0]);
  const auto time = static_cast<unsigned>(a.qkv.shape[1]);
  dispatch_any_float(a.qkv.dtype, "attention_cached", [&]<class T>() {
    gpu_launch({.grid = {time, batch * static_cast<unsigned>(a.heads)},
                .block = {kBlock},
                .stream = stream},
               attention_cached_kernel<T>,
               Problem<T>{.out = a.out.as<T>(),
                          .k = a.k.as<T>(),
                          .v = a.v.as<T>(),
                          .qkv = a.qkv.as<T>(),
                          .position = static_cast<int>(a.position),
                          .time = static_cast<int>(time),
                          .heads = a.heads,
                          .head_size = static_cast<int>(head_size),
                          .capacity = a.k.shape[1],
                          .width = width,
                          .scale = 1.0f / std::sqrt(static_cast<float>(head_size))});
  });
}

}  // namespace gpt2train::cuda
