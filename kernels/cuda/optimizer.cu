// Global gradient norm and AdamW, each over all parameters at once. Norm, clip factor and finite
// flag stay on the device between the two.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {
namespace {

constexpr int kBlock = 256;
constexpr int kWarps = kBlock / kWarp;

// ---- norm ---------------------------------------------------------------------------------------

// In every thread, summed in one order.
__device__ double block_sum(double x) {
  GPU_SHARED(double, sums, kWarps);
  x = warp_sum(x);
  if (lane_index() == 0) sums[warp_index()] = x;
  block_barrier();
  double total = 0.0;
  for (int warp = 0; warp < kWarps; ++warp) total += sums[warp];
  return total;
}

// In double, so a finite gradient can't overflow and small ones are not lost among many.
__global__ void __launch_bounds__(kBlock)
    squares_kernel(double* sums, const float* gradients, std::int64_t count) {
  const std::int64_t begin = std::int64_t{blockIdx.x} * kNormPiece;
  const std::int64_t end = begin + kNormPiece < count ? begin + kNormPiece : count;
  double sum = 0.0;
  for (std::int64_t i = begin + threadIdx.x * 4; i < end; i += kBlock * 4) {
    float x[4] = {};
    if (i + 4 <= end) {
      load(x, gradients + i);
    } else {
      for (int j = 0; j < 4; ++j) x[j] = i + j < end ? gradients[i + j] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += double{x[j]} * double{x[j]};
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kBlock)
    grad_state_kernel(float* state, const double* sums, std::int64_t count, float max_norm,
                      float loss_scale) {
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < count; i += kBlock) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  const double norm = sqrt(sum) / double{loss_scale};
  const double clip = max_norm > 0.0f && norm > double{max_norm} ? double{max_norm} / norm : 1.0;
  state[kGradStateNorm] = static_cast<float>(norm);
  state[kGradStateClip] = static_cast<float>(clip / double{loss_scale});
  state[kGradStateFinite] = sum <= 1.7976931348623157e308 ? 1.0f : 0.0f;  // false for a NaN
}

// ---- AdamW --------------------------------------------------------------------------------------

constexpr int kMaxRanges = 256;  // a launch: its arguments are limited to 4 KiB

struct Factors {
  float learning_rate;
  float first, second;  // bias corrections: m_hat = m * first, v_hat = v * second
  float beta1, beta2;
  float epsilon;
  float weight_decay;
};

// Neighbouring ranges, decayed in turns.
struct Ranges {
  std::int64_t end[kMaxRanges];
  std::int64_t begin;
  int count;
  bool first_decays;

  __device__ bool decays(std::int64_t element) const {
    int low = 0, high = count - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (element < end[middle]) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return (low % 2 == 0) == first_decays;
  }
};

template <class T>
struct Arrays {
  T* weights;  // rounded from masters, or null where the masters are the weights
  float* masters;
  const float* gradients;
  float* m;
  float* v;
  const float* state;
};

template <class T>
__global__ void __launch_bounds__(kBlock)
    adamw_kernel(Arrays<T> a, const Factors f, const __grid_constant__ Ranges ranges) {
  if (a.state[kGradStateFinite] == 0.0f) return;
  const float clip = a.state[kGradStateClip];
  const std::int64_t first = ranges.begin + global_thread() * 4;
  const std::int64_t end = ranges.end[ranges.count - 1];
  const auto update = [&]<int kCount>(std::int64_t at, float(&p)[kCount]) {
    float g[kCount], m[kCount], v[kCount];
    load<Reuse::kOnce>(g, a.gradients + at);
    load(m, a.m + at);
    load(v, a.v + at);
    load(p, a.masters + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float decay = ranges.decays(at + i) ? f.weight_decay : 0.0f;
      g[i] *= clip;
      m[i] = m[i] * f.beta1 + g[i] * (1.0f - f.beta1);
      v[i] = v[i] * f.beta2 + g[i] * g[i] * (1.0f - f.beta2);
      const float step = m[i] * f.first / (sqrtf(v[i] * f.second) + f.epsilon) + p[i] * decay;
      p[i] -= step * f.learning_rate;
    }
    store(a.m + at, m);
    store(a.v + at, v);
    store(a.masters + at, p);
    if (a.weights != nullptr) store(a.weights + at, p);
  };
  if (first + 4 <= end && first % 4 == 0) {
    float p[4];
    update(first, p);
  } else {
    for (std::int64_t i = first; i < first + 4 && i < end; ++i) {
      float p[1];
      update(i, p);
    }
  }
}

template <class T>
void launch(const AdamW& a, Stream stream) {
  const double t = static_cast<double>(a.update);
  const Factors factors{.learning_rate = a.learning_rate,
                        .first = static_cast<float>(1.0 / (1.0 - std::pow(double{a.beta1}, t))),
                        .second = static_cast<float>(1.0 / (1.0 - std::pow(double{a.beta2}, t))),
                        .beta1 = a.beta1,
                        .beta2 = a.beta2,
                        .epsilon = a.epsilon,
                        .weight_decay = a.weight_decay};
  const bool masters = a.masters.present();
  const Arrays<T> arrays{.weights = masters ? a.weights.as<T>() : nullptr,
                         .masters = (masters ? a.masters : a.weights).as<float>(),
                         .gradients = a.gradients.as<float>(),
                         .m = a.m.as<float>(),
                         .v = a.v.as<float>(),
                         .state = a.state.as<float>()};
  for (std::size_t first = 0; first < a.ranges.size(); first += kMaxRanges) {
    const auto some =
        a.ranges.subspan(first, std::min<std::size_t>(kMaxRanges, a.ranges.size() - first));
    Ranges ranges{.end = {},
                  .begin = some.front().begin,
                  .count = static_cast<int>(some.size()),
                  .first_decays = some.front().decay};
    for (std::size_t i = 0; i < some.size(); ++i) ranges.end[i] = some[i].end;
    gpu_launch({.grid = {blocks_for(some.back().end - ranges.begin, kBlock * 4)},
                .block = {kBlock},
                .stream = stream},
               adamw_kernel<T>, arrays, factors, ranges);
  }
}

}  // namespace

void grad_norm(const GradNorm& a, Stream stream) {
  const std::int64_t pieces = norm_pieces(a);
  double* const sums = static_cast<double*>(a.workspace.data);
  gpu_launch({.grid = {static_cast<unsigned>(pieces)}, .block = {kBlock}, .stream = stream},
             squares_kernel, sums, a.gradients.as<float>(), a.gradients.count());
  gpu_launch({.grid = {1}, .block = {kBlock}, .stream = stream}, grad_state_kernel,
             a.state.as<float>(), sums, pieces, a.max_norm, a.loss_scale);
}

void adamw(const AdamW& a, Stream stream) {
  dispatch_any_float(a.weights.dtype, "adamw", [&]<class T>() { launch<T>(a, stream); });
}

}  // namespace gpt2train::cuda
