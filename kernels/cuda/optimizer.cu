// Global gradient norm and AdamW, each over all parameters at once. Norm, clip factor and finite
// flag stay on the device between the two.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "gpt2train/core/moment_code.h"
#include "gpt2train/core/rng.h"
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

// Of a launch: its arguments are limited to 4 KiB. So many ranges have a block of codes or more.
constexpr int kMaxRanges = 256;
static_assert(kMaxRanges >= kCodeBlock);

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
  std::int64_t begin, stop;  // of the launch; multiples of kCodeBlock, or the end of the arrays
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

// P is what is updated, M the type of m. T is rounded from P, or is P itself.
template <class P, class T, class M>
struct Arrays {
  P* updated;
  T* rounded;  // or null
  const float* gradients;
  M* m;
  SecondMoment<M>* v;
  float* m_scales;  // null but for codes
  float* v_scales;
  const float* state;
};

// A thread's elements, of which the first `count` are there.
template <int kCount>
struct Run {
  std::int64_t first;
  int count;

  __device__ Run(std::int64_t at, std::int64_t end)
      : first(at), count(end - at < kCount ? static_cast<int>(end - at) : kCount) {}
  __device__ bool whole() const { return count == kCount; }
  __device__ bool has(int i) const { return i < count; }
};

template <Reuse kReuse = Reuse::kCached, int kCount, class T>
__device__ void load_run(float (&to)[kCount], const T* array, const Run<kCount>& run) {
  if (run.whole()) return load<kReuse>(to, array + run.first);
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = run.has(i) ? widen(array[run.first + i]) : 0.0f;
}

template <int kCount, class T>
__device__ void store_run(T* array, const float (&from)[kCount], const Run<kCount>& run) {
  if (run.whole()) return store(array + run.first, from);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (run.has(i)) array[run.first + i] = narrow<T>(from[i]);
  }
}

template <int kCount, class T>
__device__ void store_pack(T* array, const Pack<T, kCount>& pack, const Run<kCount>& run) {
  if (run.whole()) return write(reinterpret_cast<Pack<T, kCount>*>(array + run.first), pack);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (run.has(i)) array[run.first + i] = pack.value[i];
  }
}

// bf16 is rounded stochastically.
template <RandomUse kUse, int kCount, class T>
__device__ void store_updated(T* array, const float (&from)[kCount], const Run<kCount>& run,
                              const Rounding& rounding) {
  if constexpr (std::is_same_v<T, bf16>) {
    static_assert(kCount == 8);
    const Philox4 words = philox(rounding.counter(kUse, run.first), rounding.seed);
    Pack<bf16, kCount> pack;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      pack.value[i] = round_stochastically(from[i], random_half(words, i));
    }
    store_pack(array, pack, run);
  } else {
    store_run(array, from, run);
  }
}

template <int kCount, class M>
__device__ void load_moment(float (&to)[kCount], const M* array, const float* scales,
                            const Run<kCount>& run) {
  if constexpr (sizeof(M) == 1) {
    Pack<M, kCount> pack;
    if (run.whole()) {
      pack = read(reinterpret_cast<const Pack<M, kCount>*>(array + run.first));
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) pack.value[i] = run.has(i) ? array[run.first + i] : M{};
    }
    const float scale = scales[run.first / kCodeBlock];
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = run.has(i) ? decode(pack.value[i], scale) : 0.0f;
  } else {
    load_run(to, array, run);
  }
}

// The block of a code is that of a warp: all its lanes take part.
template <RandomUse kUse, int kCount, class M>
__device__ void store_moment(M* array, float* scales, const float (&from)[kCount],
                             const Run<kCount>& run, const Rounding& rounding) {
  if constexpr (sizeof(M) == 1) {
    static_assert(kCount == 8 && kCount * kWarp == kCodeBlock);
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < kCount; ++i) largest = fmaxf(largest, fabsf(from[i]));
    const float scale = code_scale(warp_max(largest));
    warp_barrier();  // all lanes have read the old one
    if (lane_index() == 0) scales[run.first / kCodeBlock] = scale;
    const float inverse = inverse_of(scale);
    const Philox4 words = philox(rounding.counter(kUse, run.first), rounding.seed);
    Pack<M, kCount> pack;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      pack.value[i] = encode<M>(from[i], inverse, random_half(words, i));
    }
    store_pack(array, pack, run);
  } else {
    store_updated<kUse>(array, from, run, rounding);
  }
}

// Elements of a thread: 16 bytes of the narrowest array, and then those of one call of Philox.
template <class P, class M>
inline constexpr int kElements = sizeof(P) == 2 || sizeof(M) <= 2 ? 8 : 4;

template <class P, class T, class M>
__global__ void __launch_bounds__(kBlock)
    adamw_kernel(Arrays<P, T, M> a, const Factors f, const Rounding rounding,
                 const __grid_constant__ Ranges ranges) {
  if (a.state[kGradStateFinite] == 0.0f) return;
  const float clip = a.state[kGradStateClip];
  constexpr int kCount = kElements<P, M>;
  constexpr std::int64_t kTogether = sizeof(M) == 1 ? kCodeBlock : kCount;
  const std::int64_t first = ranges.begin + global_thread() * kCount;
  if (first / kTogether * kTogether >= ranges.stop) return;
  const Run<kCount> run(first, ranges.stop);
  float g[kCount], m[kCount], v[kCount], p[kCount];
  load_run<Reuse::kOnce>(g, a.gradients, run);
  load_moment(m, a.m, a.m_scales, run);
  load_moment(v, a.v, a.v_scales, run);
  load_run(p, a.updated, run);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float decay = ranges.decays(first + i) ? f.weight_decay : 0.0f;
    g[i] *= clip;
    m[i] = m[i] * f.beta1 + g[i] * (1.0f - f.beta1);
    v[i] = v[i] * f.beta2 + g[i] * g[i] * (1.0f - f.beta2);
    const float step = m[i] * f.first / (sqrtf(v[i] * f.second) + f.epsilon) + p[i] * decay;
    p[i] -= step * f.learning_rate;
  }
  store_updated<RandomUse::kRoundWeight>(a.updated, p, run, rounding);
  if (a.rounded != nullptr) store_run(a.rounded, p, run);
  store_moment<RandomUse::kRoundFirstMoment>(a.m, a.m_scales, m, run, rounding);
  store_moment<RandomUse::kRoundSecondMoment>(a.v, a.v_scales, v, run, rounding);
}

template <class P, class T, class M>
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
  const Arrays<P, T, M> arrays{.updated = (masters ? a.masters : a.weights).as<P>(),
                               .rounded = masters ? a.weights.as<T>() : nullptr,
                               .gradients = a.gradients.as<float>(),
                               .m = a.m.as<M>(),
                               .v = a.v.as<SecondMoment<M>>(),
                               .m_scales = a.m_scales.as_or_null<float>(),
                               .v_scales = a.v_scales.as_or_null<float>(),
                               .state = a.state.as<float>()};
  const Rounding rounding{.seed = a.seed, .update = static_cast<std::uint64_t>(a.update)};
  constexpr int kCount = kElements<P, M>;
  const std::int64_t end = a.weights.count();
  std::size_t first = 0;
  for (std::int64_t begin = 0; begin < end;) {
    while (a.ranges[first].end <= begin) ++first;
    const auto some =
        a.ranges.subspan(first, std::min<std::size_t>(kMaxRanges, a.ranges.size() - first));
    Ranges ranges{.end = {},
                  .begin = begin,
                  .stop = some.back().end == end ? end : some.back().end / kCodeBlock * kCodeBlock,
                  .count = static_cast<int>(some.size()),
                  .first_decays = some.front().decay};
    for (std::size_t i = 0; i < some.size(); ++i) ranges.end[i] = some[i].end;
    gpu_launch({.grid = {blocks_for(ranges.stop - begin, kBlock * kCount)},
                .block = {kBlock},
                .stream = stream},
               adamw_kernel<P, T, M>, arrays, factors, rounding, ranges);
    begin = ranges.stop;
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
  dispatch_moment(a.m.dtype, "adamw", [&]<class M>() {
    if (a.masters.present()) {
      return dispatch_any_float(a.weights.dtype, "adamw",
                                [&]<class T>() { launch<float, T, M>(a, stream); });
    }
    dispatch_float(a.weights.dtype, "adamw", [&]<class T>() { launch<T, T, M>(a, stream); });
  });
}

}  // namespace gpt2train::cuda
