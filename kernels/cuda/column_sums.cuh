// Sums over the rows of a matrix, in two steps and always in the same order: a block sums its own
// rows into a partial sum in the workspace, and a second kernel adds those up. No atomics.
#pragma once

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/scratch.h"

namespace gpt2train::cuda {

inline constexpr int kSumWarps = 8;  // of a block; each takes every eighth row
inline constexpr int kSumBlock = kSumWarps * kWarp;

// The warps' sums of kWarp * kCount columns become the block's; lane i of each warp has the columns
// from i * kCount. `warp_sums` is (kSumWarps, kWarp * kCount); to[i] is written where i < limit.
template <int kCount>
__device__ __forceinline__ void sum_over_warps(float* to, std::int64_t limit, float* warp_sums,
                                               const float (&sums)[kCount]) {
  constexpr int kColumns = kWarp * kCount;
  block_barrier();  // of an earlier use
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    warp_sums[warp_index() * kColumns + lane_index() * kCount + i] = sums[i];
  }
  block_barrier();
  for (int column = static_cast<int>(threadIdx.x); column < kColumns; column += kSumBlock) {
    if (column >= limit) continue;
    float total = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kSumWarps; ++warp) total += warp_sums[warp * kColumns + column];
    to[column] = total;
  }
}

// out[j] = or += the sum over `blocks` of partials[block * stride + j], for j below width.
void add_partials(float* out, const float* partials, std::int64_t blocks, std::int64_t stride,
                  std::int64_t width, bool accumulate, Stream stream);

// partials[row block][sum][column]. Value has `template <int kCount> void operator()(row, column,
// float (&x)[kSums][kCount])`.
template <int kSums, int kCount, class Value>
__global__ void __launch_bounds__(kSumBlock)
    column_sums_kernel(float* partials, RowBlocks blocks, std::int64_t width, Value value) {
  constexpr int kColumns = kWarp * kCount;
  GPU_SHARED(float, warp_sums, kSumWarps* kColumns);
  const std::int64_t first = std::int64_t{blockIdx.x} * kColumns;
  const std::int64_t column = first + lane_index() * kCount;
  float sums[kSums][kCount] = {};
  if (column < width) {
    const std::int64_t end = blocks.begin(blockIdx.y + 1);
    for (std::int64_t row = blocks.begin(blockIdx.y) + warp_index(); row < end; row += kSumWarps) {
      float x[kSums][kCount];
      value(row, column, x);
#pragma unroll
      for (int s = 0; s < kSums; ++s) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) sums[s][i] += x[s][i];
      }
    }
  }
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
    float* const to = partials + (std::int64_t{blockIdx.y} * kSums + s) * width + first;
    sum_over_warps(to, width - first, warp_sums, sums[s]);
  }
}

// `vector`: rows may be read eight elements at a time.
template <int kSums, class Value>
void column_sums(float* partials, std::int64_t rows, std::int64_t width, bool vector,
                 const Value& value, Stream stream) {
  const RowBlocks blocks(rows);
  const auto launch = [&](auto kernel, int columns) {
    gpu_launch({.grid = {blocks_for(width, columns), static_cast<unsigned>(blocks.count)},
                .block = {kSumBlock},
                .stream = stream},
               kernel, partials, blocks, width, value);
  };
  if (vector) {
    launch(column_sums_kernel<kSums, 8, Value>, kWarp * 8);
  } else {
    launch(column_sums_kernel<kSums, 1, Value>, kWarp);
  }
}

}  // namespace gpt2train::cuda
