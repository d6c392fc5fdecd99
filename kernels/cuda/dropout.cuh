// Factors of dropout, 0 or 1 / (1 - rate), from the definition in core/rng.h.
#pragma once

#include "gpt2train/core/rng.h"
#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {

__device__ __forceinline__ float dropout_factor(const Dropout& dropout, std::uint32_t word) {
  return unit_float(word) < dropout.rate ? 0.0f : 1.0f / (1.0f - dropout.rate);
}

__device__ __forceinline__ Philox4 dropout_words(const Dropout& dropout, std::uint32_t sample,
                                                 std::int64_t element) {
  return random_words(dropout.seed, dropout.use, dropout.row_0() + sample, dropout.layer,
                      static_cast<std::uint32_t>(element / 4));
}

// Of one element of a sample of the micro-batch.
__device__ __forceinline__ float dropout_factor(const Dropout& dropout, std::uint32_t sample,
                                                std::int64_t element) {
  const Philox4 words = dropout_words(dropout, sample, element);
  // The word by comparisons: an index that is not known would put the array into local memory.
  const int which = static_cast<int>(element % 4);
  const std::uint32_t low = which == 0 ? words[0] : words[1];
  const std::uint32_t high = which == 2 ? words[2] : words[3];
  return dropout_factor(dropout, which < 2 ? low : high);
}

// Of kCount consecutive elements from `first` of a flat array whose samples have `per_sample` each;
// kCount divides both. Fewer than 2^32 runs, since a division of 64 bits is a call.
template <int kCount>
__device__ __forceinline__ void dropout_factors(float (&factors)[kCount], const Dropout& dropout,
                                                std::int64_t first, std::int64_t per_sample) {
  const auto run = static_cast<std::uint32_t>(first / kCount);
  const auto runs = static_cast<std::uint32_t>(per_sample / kCount);
  const std::uint32_t sample = run / runs;
  const std::int64_t element = std::int64_t{run - sample * runs} * kCount;
  if constexpr (kCount == 1) {
    factors[0] = dropout_factor(dropout, sample, element);
  } else {
    static_assert(kCount % 4 == 0);
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const Philox4 words = dropout_words(dropout, sample, element + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) factors[i + j] = dropout_factor(dropout, words[j]);
    }
  }
}

}  // namespace gpt2train::cuda
