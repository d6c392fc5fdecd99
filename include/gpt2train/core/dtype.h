// Element types. Host code stores bf16 and fp16 as bits and computes in float, so nothing is
// computed in 16 bits by accident.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "gpt2train/core/error.h"

namespace gpt2train {

struct bf16 {
  std::uint16_t bits;
};
struct fp16 {
  std::uint16_t bits;
};

enum class DType : std::uint8_t { kFloat32, kBFloat16, kFloat16, kInt32, kInt8, kUInt8 };

template <class T>
struct DTypeOf;  // undefined on purpose: an unsupported T is a compile error
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kFloat32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::kBFloat16;
};
template <>
struct DTypeOf<fp16> {
  static constexpr DType value = DType::kFloat16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::kInt32;
};
template <>
struct DTypeOf<std::int8_t> {
  static constexpr DType value = DType::kInt8;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::kUInt8;
};

constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
    case DType::kInt8:
    case DType::kUInt8:
      return 1;
  }
  return 0;
}

constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "fp32";
    case DType::kBFloat16:
      return "bf16";
    case DType::kFloat16:
      return "fp16";
    case DType::kInt32:
      return "int32";
    case DType::kInt8:
      return "int8";
    case DType::kUInt8:
      return "uint8";
  }
  return "?";
}

// Calls fn.operator()<T>() with the C++ type of `dtype`: fp32 or bf16, which every backend has. The
// only dtype switch in the program.
template <class Fn>
void dispatch_float(DType dtype, const char* op, Fn&& fn) {
  switch (dtype) {
    case DType::kFloat32:
      return fn.template operator()<float>();
    case DType::kBFloat16:
      return fn.template operator()<bf16>();
    case DType::kFloat16:
    case DType::kInt32:
    case DType::kInt8:
    case DType::kUInt8:
      break;
  }
  throw InternalError(concat(op, ": no kernel for dtype ", name_of(dtype)));
}

// The same for backends that have fp16 as well.
template <class Fn>
void dispatch_any_float(DType dtype, const char* op, Fn&& fn) {
  if (dtype == DType::kFloat16) return fn.template operator()<fp16>();
  dispatch_float(dtype, op, fn);
}

}  // namespace gpt2train
