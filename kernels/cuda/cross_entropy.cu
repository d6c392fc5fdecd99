// A block has a row of logits. The first pass takes maximum and sum of exponentials at once
// (Milakov, Gimelshein 2018), the second one turns the row, from the cache, into its gradient.
#include "kernels/cross_entropy.h"

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {
namespace {

constexpr int kBlock = 512;
constexpr int kWarps = kBlock / kWarp;

// sum over j of e^(logits[j] - max)
struct Softmax {
  float max, sum;
};

__device__ __forceinline__ Softmax merge(Softmax a, Softmax b) {
  const float max = fmaxf(a.max, b.max);
  if (max == -INFINITY) return {max, 0.0f};  // nothing yet: e^(-inf + inf) is a NaN
  return {max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
}

// Of all threads, in each of them; merged in one order.
__device__ Softmax block_merge(Softmax mine) {
  GPU_SHARED(float, max, kWarps);
  GPU_SHARED(float, sum, kWarps);
#pragma unroll
  for (int lane_mask = kWarp / 2; lane_mask > 0; lane_mask /= 2) {
    mine = merge(mine, {shuffle_xor(mine.max, lane_mask), shuffle_xor(mine.sum, lane_mask)});
  }
  if (lane_index() == 0) {
    max[warp_index()] = mine.max;
    sum[warp_index()] = mine.sum;
  }
  block_barrier();
  Softmax total{-INFINITY, 0.0f};
  for (int warp = 0; warp < kWarps; ++warp) total = merge(total, {max[warp], sum[warp]});
  return total;
}

template <class T, int kCount>
__global__ void __launch_bounds__(kBlock)
    cross_entropy_kernel(T* all_logits, float* losses, const std::int32_t* targets, int vocab,
                         int width, float scale, bool write_gradient) {
  const std::int64_t row = blockIdx.x;
  T* const logits = all_logits + row * width;
  const std::int32_t target = targets[row];
  const int first = static_cast<int>(threadIdx.x) * kCount;

  if (target < 0) {  // for the whole block
    if (threadIdx.x == 0) losses[row] = 0.0f;
    if (!write_gradient) return;
    const float zeros[kCount] = {};
    for (int column = first; column < width; column += kBlock * kCount) {
      store(logits + column, zeros);
    }
    return;
  }

  Softmax mine{-INFINITY, 0.0f};
  for (int column = first; column < vocab; column += kBlock * kCount) {
    float x[kCount];
    load(x, logits + column);
    float max = mine.max;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (column + i >= vocab) x[i] = -INFINITY;
      max = fmaxf(max, x[i]);
    }
    if (max == -INFINITY) continue;
    mine.sum *= expf(mine.max - max);
    mine.max = max;
#pragma unroll
    for (int i = 0; i < kCount; ++i) mine.sum += expf(x[i] - max);
  }
  const Softmax total = block_merge(mine);

  // In double: p - 1 cancels where p is near 1.
  const double shifted = double{widen(logits[target])} - double{total.max};
  const double probability = exp(shifted) / double{total.sum};
  if (threadIdx.x == 0) losses[row] = static_cast<float>(log(double{total.sum}) - shifted);
  if (!write_gradient) return;
  block_barrier();  // every thread has read the target's logit

  const float factor = scale / total.sum;
  for (int column = first; column < width; column += kBlock * kCount) {
    float x[kCount];
    load(x, logits + column);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      x[i] = column + i < vocab ? factor * expf(x[i] - total.max) : 0.0f;
      if (column + i == target) x[i] = static_cast<float>(double{scale} * (probability - 1.0));
    }
    store<Reuse::kOnce>(logits + column, x);
  }
}

// One block: a few thousand values.
__global__ void __launch_bounds__(kBlock)
    loss_sum_kernel(float* cell, const float* losses, std::int64_t count, float scale,
                    bool accumulate) {
  GPU_SHARED(double, sums, kWarps);
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < count; i += kBlock) sum += double{losses[i]};
  sum = warp_sum(sum);
  if (lane_index() == 0) sums[warp_index()] = sum;
  block_barrier();
  if (threadIdx.x != 0) return;
  double total = 0.0;
  for (int warp = 0; warp < kWarps; ++warp) total += sums[warp];
  *cell = (accumulate ? *cell : 0.0f) + static_cast<float>(double{scale} * total);
}

}  // namespace

void cross_entropy(const CrossEntropy& a, Stream stream) {
  const std::int64_t rows = a.logits.rows(), width = a.logits.width();
  if (rows == 0) return;
  dispatch_any_float(a.logits.dtype, "cross_entropy", [&]<class T>() {
    T* const logits = a.logits.as<T>();
    const bool vector =
        width % kVector<T> == 0 && reinterpret_cast<std::uintptr_t>(logits) % 16 == 0;
    gpu_launch({.grid = {static_cast<unsigned>(rows)}, .block = {kBlock}, .stream = stream},
               vector ? cross_entropy_kernel<T, kVector<T>> : cross_entropy_kernel<T, 1>, logits,
               a.losses.as<float>(), a.targets.as<std::int32_t>(), a.vocab, width, a.scale,
               a.write_gradient);
  });
}

void loss_sum(const LossSum& a, Stream stream) {
  gpu_launch({.grid = {1}, .block = {kBlock}, .stream = stream}, loss_sum_kernel,
             a.cell.as<float>(), a.losses.as<float>(), a.losses.count(), a.scale, a.accumulate);
}

}  // namespace gpt2train::cuda
