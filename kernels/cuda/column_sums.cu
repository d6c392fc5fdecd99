// The second step of sums over rows: the partial sums of all blocks, in their order.
#include "kernels/cuda/column_sums.cuh"

namespace gpt2train::cuda {
namespace {

__global__ void __launch_bounds__(kSumBlock)
    add_partials_kernel(float* out, const float* partials, std::int64_t blocks, std::int64_t stride,
                        std::int64_t width, bool accumulate) {
  GPU_SHARED(float, warp_sums, kSumWarps* kWarp);
  const std::int64_t column = std::int64_t{blockIdx.x} * kWarp + lane_index();
  float sum[1] = {0.0f};
  if (column < width) {
    for (std::int64_t block = warp_index(); block < blocks; block += kSumWarps) {
      sum[0] += partials[block * stride + column];
    }
  }
  GPU_SHARED(float, totals, kWarp);
  sum_over_warps(totals, kWarp, warp_sums, sum);
  block_barrier();
  if (warp_index() == 0 && column < width) {
    out[column] = (accumulate ? out[column] : 0.0f) + totals[lane_index()];
  }
}

}  // namespace

void add_partials(float* out, const float* partials, std::int64_t blocks, std::int64_t stride,
                  std::int64_t width, bool accumulate, Stream stream) {
  gpu_launch({.grid = {blocks_for(width, kWarp)}, .block = {kSumBlock}, .stream = stream},
             add_partials_kernel, out, partials, blocks, stride, width, accumulate);
}

}  // namespace gpt2train::cuda
