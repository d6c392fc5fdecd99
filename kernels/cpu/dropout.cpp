#include "kernels/cpu/dropout.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

using simd::Floats;
using simd::kWidth;
using simd::Words;

constexpr int kBlock = 4 * kWidth;  // elements of kWidth counters

typedef std::uint64_t Longs __attribute__((vector_size(4 * kWidth)));

// Products of the even 32-bit lanes.
GPT2_SIMD Longs multiply_even(Longs a, std::uint32_t factor) {
#if defined(__AVX512F__)
  return (Longs)_mm512_maskz_mul_epu32(0xFF, (__m512i)a,
                                       _mm512_set1_epi32(static_cast<int>(factor)));
#elif defined(__AVX2__)
  return (Longs)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi32(static_cast<int>(factor)));
#else
  return (a & 0xFFFFFFFFu) * std::uint64_t{factor};
#endif
}

GPT2_SIMD Words multiply_high(Words a, std::uint32_t factor) {
  const Longs even = multiply_even((Longs)a, factor);
  const Longs odd = multiply_even((Longs)a >> 32, factor);
  return (Words)((even >> 32) | (odd & 0xFFFFFFFF00000000u));
}

// philox() of core/rng.h for kWidth counters that differ in their first word.
struct PhiloxVectors {
  Words word[4];
};
GPT2_SIMD PhiloxVectors philox(Words index, const Philox4& counter, std::uint64_t seed) {
  Words c0 = index, c1 = counter[1] - Words{}, c2 = counter[2] - Words{}, c3 = counter[3] - Words{};
  std::uint32_t key0 = static_cast<std::uint32_t>(seed);
  std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const Words high0 = multiply_high(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
    const Words high1 = multiply_high(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
    c0 = high1 ^ c1 ^ key0;
    c1 = low1;
    c2 = high0 ^ c3 ^ key1;
    c3 = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace

void dropout_mask(float* mask, std::int64_t count, const Dropout& dropout, std::uint64_t sample,
                  std::int64_t first) {
  const float keep_factor = 1.0f / (1.0f - dropout.rate);
  const Philox4 counter = {0, static_cast<std::uint32_t>(sample),
                           static_cast<std::uint32_t>(sample >> 32),
                           (dropout.layer << 8) | static_cast<std::uint32_t>(dropout.use)};
  Words lane;
  for (int i = 0; i < kWidth; ++i) lane[i] = static_cast<std::uint32_t>(i);

  const std::int64_t end = first + count;
  for (std::int64_t group = first / 4; group * 4 < end; group += kWidth) {
    const PhiloxVectors random =
        philox(lane + static_cast<std::uint32_t>(group), counter, dropout.seed);
    float block[kBlock];  // element 4 i + j is word j of counter i
    for (int j = 0; j < 4; ++j) {
      const Floats unit =
          __builtin_convertvector((simd::Ints)(random.word[j] >> 8), Floats) * 0x1p-24f;
      const Floats factor = unit < dropout.rate ? Floats{} : simd::splat(keep_factor);
      for (int i = 0; i < kWidth; ++i) block[4 * i + j] = factor[i];
    }
    const std::int64_t from = std::max(first, group * 4), to = std::min(end, group * 4 + kBlock);
    std::memcpy(mask + (from - first), block + (from - group * 4),
                static_cast<std::size_t>(to - from) * sizeof(float));
  }
}

RowMask::RowMask(const Dropout& dropout, std::int64_t time, std::int64_t width)
    : dropout_(dropout), time_(time), width_(width) {
  std::fill_n(mask_, kColumns, 1.0f);
}

const float* RowMask::operator()(std::int64_t row, std::int64_t column, std::int64_t count) {
  if (dropout_.active()) {
    const std::uint64_t sample = dropout_.row_0() + static_cast<std::uint64_t>(row / time_);
    dropout_mask(mask_, count, dropout_, sample, row % time_ * width_ + column);
  }
  return mask_;
}

}  // namespace gpt2train::cpu
