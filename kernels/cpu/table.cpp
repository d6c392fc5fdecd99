#include "kernels/table.h"

#include "kernels/cpu/cpu_kernels.h"

namespace gpt2train {

const KernelTable& cpu_kernels() {
  static constexpr KernelTable kTable = {
      .name = "cpu",
      .embedding_forward = cpu::embedding_forward,
      .embedding_backward = cpu::embedding_backward,
      .matmul = cpu::matmul,
      .bias_backward = cpu::bias_backward,
      .layernorm_forward = cpu::layernorm_forward,
      .layernorm_backward = cpu::layernorm_backward,
      .layernorm_recompute = cpu::layernorm_recompute,
      .residual_forward = cpu::residual_forward,
      .dropout_backward = cpu::dropout_backward,
      .gelu_forward = cpu::gelu_forward,
      .gelu_backward = cpu::gelu_backward,
      .attention_forward = cpu::attention_forward,
      .attention_backward = cpu::attention_backward,
      .attention_cached = cpu::attention_cached,
      .cross_entropy = cpu::cross_entropy,
      .loss_sum = cpu::loss_sum,
      .grad_norm = cpu::grad_norm,
      .adamw = cpu::adamw,
      .fill = cpu::fill,
      .cast = cpu::cast,
      .upload = cpu::upload,
      .download = cpu::download,
      .embedding_backward_workspace = cpu::embedding_backward_workspace,
      .matmul_workspace = cpu::matmul_workspace,
      .bias_backward_workspace = cpu::bias_backward_workspace,
      .layernorm_backward_workspace = cpu::layernorm_backward_workspace,
      .attention_forward_workspace = cpu::attention_forward_workspace,
      .attention_backward_workspace = cpu::attention_backward_workspace,
      .grad_norm_workspace = cpu::grad_norm_workspace,
  };
  return kTable;
}

const char* missing_instructions() {
#ifdef __AVX512F__
  if (__builtin_cpu_supports("avx512f") == 0) return "AVX-512";
#endif
#ifdef __AVX2__
  if (__builtin_cpu_supports("avx2") == 0) return "AVX2";
#endif
#ifdef __FMA__
  if (__builtin_cpu_supports("fma") == 0) return "FMA";
#endif
  return nullptr;
}

}  // namespace gpt2train
