// Factors of dropout, 0 or 1 / (1 - rate), from the definition in core/rng.h.
#pragma once

#include "gpt2train/core/rng.h"
#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {

// Of consecutive elements of one flat array whose samples have `per_sample` elements each.
template <int kCount>
__device__ __forceinline__ void dropout_factors(float (&factors)[kCount], const Dropout& dropout,
                                                std::int64_t first, std::int64_t per_sample) {
  const float keep = 1.0f / (1.0f - dropout.rate);
  std::int64_t sample = first / per_sample, element = first % per_sample;
  Philox4 words = {};
#pragma unroll
  for (int i = 0; i < kCount; ++i, ++element) {
    if (element == per_sample) {
      element = 0;
      ++sample;
    }
    const int which = static_cast<int>(element % 4);
    if (i == 0 || which == 0) {
      words = random_words(dropout.seed, dropout.use,
                           dropout.first_sample + static_cast<std::uint64_t>(sample), dropout.layer,
                           static_cast<std::uint32_t>(element / 4));
    }
    // The word by comparisons: an index that is not known would put the array into local memory.
    const std::uint32_t low = which == 0 ? words[0] : words[1];
    const std::uint32_t high = which == 2 ? words[2] : words[3];
    factors[i] = unit_float(which < 2 ? low : high) < dropout.rate ? 0.0f : keep;
  }
}

}  // namespace gpt2train::cuda
