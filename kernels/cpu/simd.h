// Vectors of the machine's native width by the compiler's vector extensions, so that one source
// serves SSE, AVX, AVX-512 and NEON. Arithmetic, comparison and `mask ? a : b` are the operators;
// products and sums contract to FMA where the machine has it. Dropout masks are in dropout.h.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "gpt2train/core/convert.h"
#include "gpt2train/core/dtype.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif

// Always inlined: translation units built with another -march must not share these bodies.
#define GPT2_SIMD [[gnu::always_inline]] inline

namespace gpt2train::cpu::simd {

#if defined(__AVX512F__)
inline constexpr int kWidth = 16;
#elif defined(__AVX__)
inline constexpr int kWidth = 8;
#else
inline constexpr int kWidth = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kWidth)));
typedef std::int32_t Ints __attribute__((vector_size(4 * kWidth)));  // also masks: 0 or -1
typedef std::uint32_t Words __attribute__((vector_size(4 * kWidth)));
typedef std::uint16_t Halves __attribute__((vector_size(2 * kWidth)));

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// ---- loops over a row -----------------------------------------------------------------------

// How much of a vector a load or a store touches: all of it, or the first `count` lanes at the end
// of a row. Two types, so that the body of a loop is compiled once for each.
struct AllLanes {
  static constexpr int count = kWidth;
};
struct SomeLanes {
  int count;
};

// Calls body(i, lanes) for i = 0, kWidth, ... below count.
template <class Body>
GPT2_SIMD void for_each(std::int64_t count, Body&& body) {
  std::int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) body(i, AllLanes{});
  if (i < count) body(i, SomeLanes{static_cast<int>(count - i)});
}

// ---- loads and stores -----------------------------------------------------------------------

GPT2_SIMD Floats splat(float x) {
  return x - Floats{};  // x - 0 keeps the sign of a zero
}

GPT2_SIMD Words bits(Floats x) {
  return (Words)x;
}
GPT2_SIMD Floats from_bits(Words x) {
  return (Floats)x;
}

// GCC 12 spends four instructions on either conversion.
GPT2_SIMD Words widen(Halves x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  return (Words)_mm256_cvtepu16_epi32((__m128i)x);
#else
  return __builtin_convertvector(x, Words);
#endif
}
// Of words below 2^16.
GPT2_SIMD Halves narrow(Words x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m256i packed = _mm256_packus_epi32((__m256i)x, (__m256i)x);
  return (Halves)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0b1000));
#else
  return __builtin_convertvector(x, Halves);
#endif
}

GPT2_SIMD Floats load(const float* from) {
  Floats x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}
GPT2_SIMD Floats load(const bf16* from) {
  Halves x;
  __builtin_memcpy(&x, from, sizeof x);
  return from_bits(widen(x) << 16);
}

GPT2_SIMD void store(float* to, Floats x) {
  __builtin_memcpy(to, &x, sizeof x);
}
// Rounds to nearest even, like from_float<bf16>.
GPT2_SIMD void store(bf16* to, Floats x) {
  const Words u = bits(x);
  const Words rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
  const Words quiet_nan = (u >> 16) | 0x40u;
  const Halves halves = narrow(x != x ? quiet_nan : rounded);
  __builtin_memcpy(to, &halves, sizeof halves);
}

// Like round_stochastically(), by the words' low halves; the others are zero.
GPT2_SIMD void store(bf16* to, Floats x, Words random) {
  const Words u = bits(x);
  const Words kept = (u >> 16) | (x != x ? Words{} + 0x40u : Words{});
  const Words finite = (Words)((u & 0x7F800000u) != 0x7F800000u);
  const Halves halves = narrow(finite ? (u + random) >> 16 : kept);
  __builtin_memcpy(to, &halves, sizeof halves);
}

template <class T>
GPT2_SIMD Floats load(const T* from, AllLanes, float = 0.0f) {
  return load(from);
}
// Lanes past the end read as `fill`.
template <class T>
GPT2_SIMD Floats load(const T* from, SomeLanes lanes, float fill = 0.0f) {
  T lane[kWidth];
  store(lane, splat(fill));
  __builtin_memcpy(lane, from, static_cast<std::size_t>(lanes.count) * sizeof(T));
  return load(lane);
}

template <class T>
GPT2_SIMD void store(T* to, Floats x, AllLanes) {
  store(to, x);
}
template <class T>
GPT2_SIMD void store(T* to, Floats x, SomeLanes lanes) {
  T lane[kWidth];
  store(lane, x);
  __builtin_memcpy(to, lane, static_cast<std::size_t>(lanes.count) * sizeof(T));
}

GPT2_SIMD void store(bf16* to, Floats x, Words random, AllLanes) {
  store(to, x, random);
}
GPT2_SIMD void store(bf16* to, Floats x, Words random, SomeLanes lanes) {
  bf16 lane[kWidth];
  store(lane, x, random);
  __builtin_memcpy(to, lane, static_cast<std::size_t>(lanes.count) * sizeof(bf16));
}

// ---- arithmetic -----------------------------------------------------------------------------

// a where the two compare as the name says, else b, so a NaN in either gives b. GCC does not see
// that this is one instruction.
GPT2_SIMD Floats max(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_max_ps(0xFFFF, (__m512)a, (__m512)b);
#elif defined(__AVX__)
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
GPT2_SIMD Floats min(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_min_ps(0xFFFF, (__m512)a, (__m512)b);
#elif defined(__AVX__)
  return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}
// a b + c, rounded once where the machine has FMA. Left to itself, GCC chooses loop by loop: where
// two loops must give the same bits, it is not to be asked.
GPT2_SIMD Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
GPT2_SIMD Floats abs(Floats x) {
  return from_bits(bits(x) & 0x7FFFFFFFu);
}
GPT2_SIMD Floats sqrt(Floats x) {
  for (int i = 0; i < kWidth; ++i) x[i] = __builtin_sqrtf(x[i]);  // becomes one instruction
  return x;
}

// Over the lanes, by halves.
GPT2_SIMD float sum(Floats x) {
  float lane[kWidth];
  store(lane, x);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}
GPT2_SIMD float max(Floats x) {
  float lane[kWidth];
  store(lane, x);
  for (int half = kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  }
  return lane[0];
}

// e^x within 1 ulp; 0 at -inf, inf on overflow, NaN at NaN, and subnormal results are kept.
// x = n ln2 + r with |r| <= ln2 / 2; e^r by a minimax polynomial (relative error 3e-9).
GPT2_SIMD Floats exp(Floats x) {
  x = min(splat(89.0f), x);  // e^89 is infinite, e^-104 is 0; a NaN passes as the second operand
  x = max(splat(-104.0f), x);
  // Adding 1.5 * 2^23 leaves n in the low bits, and 254 = 2 * 127 more the biases of two exponents.
  constexpr float kRounder = 0x1.8p23f + 254.0f;
  const Floats shifted = x * 1.44269504f + kRounder;
  const Floats n = shifted - kRounder;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln2 in two parts
  Floats p = r * 0x1.6a2256p-10f + 0x1.123b02p-7f;
  p = p * r + 0x1.5558f8p-5f;
  p = p * r + 0x1.555490p-3f;
  p = p * r + 0x1.fffffcp-2f;
  p = (p * r) * r + r + 1.0f;
  // 2^n in two factors: n spans [-150, 128], more than one exponent field holds.
  const Words exponent = bits(shifted);
  const Words half = exponent >> 1;
  return p * from_bits(half << 23) * from_bits((exponent - half) << 23);
}

}  // namespace gpt2train::cpu::simd
