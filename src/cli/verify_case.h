// The built-in case of `verify`: a tiny GPT-2 whose weights and tokens come from a formula, with
// the loss and gradient norms that PyTorch computes for it in double precision. The figures are
// printed by tests/golden/make_verify_case.py.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "gpt2train/model/config.h"

namespace gpt2train::verify_case {

inline ModelConfig model() {
  return {.n_layer = 2,
          .n_head = 3,
          .n_embd = 48,
          .block_size = 20,
          .vocab_size = 101,
          .bias = true,
          .dropout = 0.0,
          .gelu = GeluForm::kErf};
}

inline constexpr std::int64_t kBatch = 2;

// Element i of tensor t in the order of ParameterLayout.
double weight(std::int64_t tensor, std::int64_t element, bool is_norm_scale);

inline std::int32_t input(std::int64_t i) {
  return static_cast<std::int32_t>((i * 37 + 11) % 101);
}
inline std::int32_t target(std::int64_t i) {
  return static_cast<std::int32_t>((i * 53 + 29) % 101);
}

struct Expected {
  double loss_erf, loss_tanh;
  std::vector<double> gradient_norms_erf, gradient_norms_tanh;  // in the order of ParameterLayout
};
const Expected& expected();

}  // namespace gpt2train::verify_case
