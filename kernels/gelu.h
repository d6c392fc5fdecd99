// GELU (Hendrycks, Gimpel 2016): x * Phi(x), exact by erf (nanoGPT), or by the tanh form of OpenAI
// and Hugging Face: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
#pragma once

#include <cstdint>

#include "gpt2train/core/tensor_view.h"

namespace gpt2train {

enum class GeluForm : std::uint8_t { kErf, kTanh };

struct GeluForward {
  TensorView out = {};  // any shape; may alias in
  TensorView in = {};
  GeluForm form = GeluForm::kErf;
};

struct GeluBackward {
  TensorView d_in = {};  // may alias d_out
  TensorView d_out = {};
  TensorView in = {};  // what the forward pass read
  GeluForm form = GeluForm::kErf;
};

}  // namespace gpt2train
