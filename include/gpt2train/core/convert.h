// Conversions between float and the 16-bit types, inline because every CPU kernel loads and stores
// with them.
#pragma once

#include <bit>
#include <cstdint>

#include "gpt2train/core/dtype.h"

namespace gpt2train {

inline float to_float(float x) {
  return x;
}
inline float to_float(bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

inline float to_float(fp16 x) {
  const std::uint32_t sign = std::uint32_t{x.bits} << 16 & 0x80000000u;
  const std::uint32_t rest = x.bits & 0x7FFFu;
  if (rest >= 0x7C00u) return std::bit_cast<float>(sign | 0x7F800000u | rest << 13);
  // As a float whose exponent is too small by 127 - 15; the product is exact, subnormals included.
  return std::bit_cast<float>(
      sign | std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest << 13) * 0x1p112f));
}

template <class T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
// Rounds to nearest even; a NaN stays a NaN (rounding alone could carry it to infinity).
template <>
inline bf16 from_float<bf16>(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16)};
}

// Rounds away from zero with the probability of what is cut off, so that the mean of many roundings
// is x. `random` is uniform in [0, 2^16). Infinities and NaNs stay what they are.
constexpr bf16 round_stochastically(float x, std::uint32_t random) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7F800000u) == 0x7F800000u) {
    return {static_cast<std::uint16_t>(u >> 16 | ((u & 0x7FFFFFu) != 0u ? 0x40u : 0u))};
  }
  return {static_cast<std::uint16_t>((u + random) >> 16)};
}

// Rounds to nearest even; what is too large becomes infinite, a NaN stays a NaN.
template <>
inline fp16 from_float<fp16>(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = u >> 16 & 0x8000u, rest = u & 0x7FFFFFFFu;
  std::uint32_t half = 0;
  if (rest > 0x7F800000u) {
    half = 0x7E00u | (rest >> 13 & 0x3FFu);
  } else if (rest >= 0x477FF000u) {  // 65,520, halfway past the largest
    half = 0x7C00u;
  } else if (rest < 0x38800000u) {  // below 2^-14: adding 2^-1 leaves the steps of 2^-24
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) + 0.5f) - 0x3F000000u;
  } else {
    half = (rest - 0x38000000u + 0xFFFu + (rest >> 13 & 1u)) >> 13;
  }
  return {static_cast<std::uint16_t>(sign | half)};
}

}  // namespace gpt2train
