// philox() of core/rng.h, a vector of counters at a time.
#pragma once

#include "gpt2train/core/rng.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu::simd {

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

struct PhiloxVectors {
  Words word[4];
};
// Of the counter `first` and the kWidth - 1 that follow it in their first word.
GPT2_SIMD PhiloxVectors philox(const Philox4& first, std::uint64_t seed) {
  Words c0, c1 = first[1] - Words{}, c2 = first[2] - Words{}, c3 = first[3] - Words{};
  for (int i = 0; i < kWidth; ++i) c0[i] = first[0] + static_cast<std::uint32_t>(i);
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

// Word j of counter i goes to to[4 * i + j].
GPT2_SIMD void store(std::uint32_t* to, const PhiloxVectors& random) {
  for (int j = 0; j < 4; ++j) {
    for (int i = 0; i < kWidth; ++i) to[4 * i + j] = random.word[j][i];
  }
}

}  // namespace gpt2train::cpu::simd
