// Every kernel a backend provides, on one screen. A backend is one constant of this type; a null
// entry is a start-up error. Kernels trust their arguments: ops have checked them.
#pragma once

#include <cstddef>

#include "kernels/attention.h"
#include "kernels/attention_cached.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/gelu.h"
#include "kernels/layernorm.h"
#include "kernels/matmul.h"
#include "kernels/optimizer.h"
#include "kernels/residual.h"
#include "kernels/stream.h"

namespace gpt2train {

struct KernelTable {
  const char* name = nullptr;
  bool has_own_memory = false;  // apart from the host's, of which kernels reach what is pinned

  void (*embedding_forward)(const EmbeddingForward&, Stream) = nullptr;
  void (*embedding_backward)(const EmbeddingBackward&, Stream) = nullptr;
  void (*matmul)(const Matmul&, Stream) = nullptr;
  void (*bias_backward)(const BiasBackward&, Stream) = nullptr;
  void (*layernorm_forward)(const LayerNormForward&, Stream) = nullptr;
  void (*layernorm_backward)(const LayerNormBackward&, Stream) = nullptr;
  void (*layernorm_recompute)(const LayerNormRecompute&, Stream) = nullptr;
  void (*residual_forward)(const ResidualForward&, Stream) = nullptr;
  void (*dropout_backward)(const DropoutBackward&, Stream) = nullptr;
  void (*gelu_forward)(const GeluForward&, Stream) = nullptr;
  void (*gelu_backward)(const GeluBackward&, Stream) = nullptr;
  void (*attention_forward)(const AttentionForward&, Stream) = nullptr;
  void (*attention_backward)(const AttentionBackward&, Stream) = nullptr;
  void (*attention_cached)(const AttentionCached&, Stream) = nullptr;
  void (*cross_entropy)(const CrossEntropy&, Stream) = nullptr;
  void (*loss_sum)(const LossSum&, Stream) = nullptr;
  void (*grad_norm)(const GradNorm&, Stream) = nullptr;
  void (*adamw)(const AdamW&, Stream) = nullptr;
  void (*fill)(const Fill&, Stream) = nullptr;
  void (*cast)(const Cast&, Stream) = nullptr;

  // Between host memory and the device's. upload may return before the copy is done; `from` is
  // then read later, in stream order. download has finished when it returns.
  void (*upload)(void* to, const void* from, std::size_t bytes, Stream) = nullptr;
  void (*download)(void* to, const void* from, std::size_t bytes, Stream) = nullptr;

  // Names a stretch of work for the device's profiler; null where there is none. Nests.
  void (*begin_range)(const char* name) = nullptr;
  void (*end_range)() = nullptr;

  // Scratch bytes of a call: functions of shapes, dtypes and the device, never of data pointers
  // (except whether an optional operand is present).
  std::size_t (*embedding_backward_workspace)(const EmbeddingBackward&) = nullptr;
  std::size_t (*matmul_workspace)(const Matmul&) = nullptr;
  std::size_t (*bias_backward_workspace)(const BiasBackward&) = nullptr;
  std::size_t (*layernorm_backward_workspace)(const LayerNormBackward&) = nullptr;
  std::size_t (*attention_forward_workspace)(const AttentionForward&) = nullptr;
  std::size_t (*attention_backward_workspace)(const AttentionBackward&) = nullptr;
  std::size_t (*grad_norm_workspace)(const GradNorm&) = nullptr;
};

// The CPU backend (kernels/cpu), which is always there.
const KernelTable& cpu_kernels();
// What its kernels are compiled for and this processor does not have, "AVX2" say; or nullptr.
const char* missing_instructions();

// What the CUDA backend's kernels take as scratch, and nothing else of it: all that a dry run needs
// of a GPU. Always there, as is every prediction.
const KernelTable& cuda_scratch();

// The same with attention by cuDNN.
const KernelTable& cuda_scratch_with_cudnn();

}  // namespace gpt2train
