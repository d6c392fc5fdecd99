// Which dtype each kind of tensor has. Model code asks for a role and never names a dtype.
#pragma once

#include "gpt2train/core/dtype.h"

namespace gpt2train {

enum class Role : std::uint8_t {
  kWeight,
  kActivation,
  kGradient,
  kMasterWeight,
  kFirstMoment,
  kSecondMoment,
  kStatistic,
};

struct Precision {
  DType compute = DType::kFloat32;   // weights as the kernels read them, and activations
  DType gradient = DType::kFloat32;  // accumulated over micro-batches, so wider than compute
  DType moment = DType::kFloat32;    // or bf16 or int8, rounded stochastically
  bool masters = true;               // false: AdamW rounds the weights themselves stochastically

  // AdamW updates fp32 weights; where the kernels read a narrower copy, it is rounded from them.
  constexpr bool master_weights() const { return masters && compute != DType::kFloat32; }

  constexpr DType of(Role role) const {
    switch (role) {
      case Role::kWeight:
      case Role::kActivation:
        return compute;
      case Role::kGradient:
        return gradient;
      case Role::kFirstMoment:
        return moment;
      case Role::kSecondMoment:  // is never negative
        return moment == DType::kInt8 ? DType::kUInt8 : moment;
      case Role::kMasterWeight:
      case Role::kStatistic:
        return DType::kFloat32;
    }
    return DType::kFloat32;
  }

  static constexpr Precision fp32() { return {}; }
  static constexpr Precision bf16_mixed() { return {.compute = DType::kBFloat16}; }
};

}  // namespace gpt2train
