// What happens once a step, over all parameters at once: the global gradient norm and AdamW
// (Loshchilov, Hutter 2019). Norm, clip factor and finite flag stay on the device between the two.
#pragma once

#include <cstdint>
#include <span>

#include "gpt2train/core/tensor_view.h"
#include "kernels/workspace.h"

namespace gpt2train {

// The device cell that GradNorm writes and AdamW reads: (kGradStateCount) fp32.
enum GradState : int {
  kGradStateNorm = 0,    // L2 norm of the gradients (not its square), without the loss scale
  kGradStateClip = 1,    // factor on the gradients: min(1, clip / norm) / loss scale
  kGradStateFinite = 2,  // 1, or 0 when any gradient is infinite or NaN
  kGradStateLoss = 3,    // of the step; neither kernel touches it
  kGradStateCount = 4,
};

// Sums of squares in double over fixed pieces, so the number of threads does not change a bit.
struct GradNorm {
  TensorView state = {};      // (kGradStateCount) fp32
  TensorView gradients = {};  // (n) fp32
  float max_norm = 0.0f;      // 0: no clipping
  float loss_scale = 1.0f;    // that the gradients were multiplied by
  Workspace workspace = {};
};

// A run of parameters that are decayed, or not: elements [begin, end) of the flat arrays, one or
// more.
struct DecayRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool decay = false;
};

// p -= learning_rate * (m_hat / (sqrt(v_hat) + epsilon) + weight_decay * p), in fp32. Of p, m and
// v, what is narrower is rounded stochastically, as core/rng.h says (for weights, Zamirai et al.
// 2020, "Revisiting BFloat16 Training"): small changes are kept in the mean, where rounding to
// nearest would lose them. Eight-bit moments are codes, as core/moment_code.h says. Writes nothing
// when the finite flag is 0.
struct AdamW {
  TensorView weights = {};    // (n): what the kernels read; rounded from masters, or updated itself
  TensorView masters = {};    // (n) fp32, or absent: weights are fp32 or bf16
  TensorView gradients = {};  // (n) fp32
  TensorView m = {};          // (n) fp32, bf16 or int8
  TensorView v = {};          // (n), dtype of m; uint8 beside int8
  TensorView m_scales = {};   // (code_blocks(n)) fp32, for eight bits alone
  TensorView v_scales = {};
  TensorView state = {};                    // (kGradStateCount) fp32, from GradNorm
  std::span<const DecayRange> ranges = {};  // cover the arrays
  float learning_rate = 0.0f;
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float epsilon = 1e-8f;
  float weight_decay = 0.0f;
  std::int64_t update = 1;  // counts from 1: the t of the bias corrections, and of the rounding
  std::uint64_t seed = 0;   // of the rounding
};

// out[i] = value
struct Fill {
  TensorView out = {};  // float type
  float value = 0.0f;
};

// out = in, converted
struct Cast {
  TensorView out = {};  // float types of equal count
  TensorView in = {};
};

}  // namespace gpt2train
