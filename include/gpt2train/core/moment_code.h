// AdamW's moments in eight bits, block by block (Dettmers et al. 2022, "8-bit Optimizers via
// Block-wise Quantization"): the kCodeBlock elements from a multiple of it on in a flat array share
// a scale, their largest magnitude. m is a code with a sign, at level l of 127 for (l / 127)^2 of
// the scale; v is at level l of 256 for (l / 256)^4 of it, so its square root, which divides m, has
// levels like those of m. v has no level 0: a square root that is at least 2^-16 of the block's
// largest keeps an m that was rounded up from almost nothing, to 2^-14, from a huge step.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "gpt2train/core/dtype.h"

namespace gpt2train {

inline constexpr std::int64_t kCodeBlock = 256;

constexpr std::int64_t code_blocks(std::int64_t count) {
  return (count + kCodeBlock - 1) / kCodeBlock;
}

template <class Code>
struct MomentLevels;  // undefined on purpose, as DTypeOf

template <>
struct MomentLevels<std::int8_t> {
  static constexpr int kLowest = 0, kHighest = 127;
  static constexpr float power(float level) { return level * level; }
  template <class Float>  // constant where the compiler knows square roots
  static constexpr Float root(Float x) {
    return sqrtf(x);
  }
  static constexpr int level(std::int8_t code) { return code < 0 ? -code : code; }
  static constexpr float sign(std::int8_t code) { return code < 0 ? -1.0f : 1.0f; }
  static constexpr std::int8_t code(int level, float x) {
    return static_cast<std::int8_t>(x < 0.0f ? -level : level);
  }
};

template <>
struct MomentLevels<std::uint8_t> {
  static constexpr int kLowest = 1, kHighest = 256;
  static constexpr float power(float level) { return level * level * (level * level); }
  template <class Float>
  static constexpr Float root(Float x) {
    return sqrtf(sqrtf(x));
  }
  static constexpr int level(std::uint8_t code) { return code + 1; }
  static constexpr float sign(std::uint8_t) { return 1.0f; }
  static constexpr std::uint8_t code(int level, float) {
    return static_cast<std::uint8_t>(level - 1);
  }
};

// Of a block whose largest magnitude is given; 0, which makes every code 0, where that has no
// inverse.
constexpr float code_scale(float largest) {
  return largest < 0x1p-126f ? 0.0f : largest;
}
constexpr float inverse_of(float scale) {
  return scale > 0.0f ? 1.0f / scale : 0.0f;
}

template <class Code>
constexpr float decode(Code code, float scale) {
  using Levels = MomentLevels<Code>;
  constexpr float kUnit = 1.0f / Levels::power(Levels::kHighest);
  const float fraction = Levels::power(static_cast<float>(Levels::level(code))) * kUnit;
  return Levels::sign(code) * fraction * scale;
}

// Rounds away from zero with the probability of what is cut off, by `random`, uniform in [0, 2^16):
// the mean of many roundings is x, of which a magnitude above the scale has become the scale, and
// what is below the lowest level that level. To nearest by kNearest.
inline constexpr std::uint32_t kNearest = 0x8000;
template <class Code>
constexpr Code encode(float x, float inverse_scale, std::uint32_t random) {
  using Levels = MomentLevels<Code>;
  constexpr float kUnits = Levels::power(Levels::kHighest);
  const float size = (x < 0.0f ? -x : x) * inverse_scale * kUnits;
  const int root = static_cast<int>(Levels::root(size));
  const int below = root < Levels::kHighest ? root : Levels::kHighest - 1;
  const int level = below > Levels::kLowest ? below : Levels::kLowest;
  const float low = Levels::power(static_cast<float>(level));
  const float step = Levels::power(static_cast<float>(level + 1)) - low;
  const bool up = (size - low) * 0x1p16f > static_cast<float>(static_cast<int>(random)) * step;
  return Levels::code(level + (up ? 1 : 0), x);
}

// What v is stored as beside m.
template <class M>
using SecondMoment = std::conditional_t<std::is_same_v<M, std::int8_t>, std::uint8_t, M>;

// Calls fn.operator()<M>() with the type of m: fp32, bf16 or eight-bit codes.
template <class Fn>
void dispatch_moment(DType dtype, const char* op, Fn&& fn) {
  if (dtype == DType::kInt8) return fn.template operator()<std::int8_t>();
  dispatch_float(dtype, op, fn);
}

}  // namespace gpt2train
