// Conversions between float and bf16, inline because every CPU kernel loads and stores with them.
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

}  // namespace gpt2train
