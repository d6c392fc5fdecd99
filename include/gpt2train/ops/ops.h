// Every op on one screen. An op checks shapes and dtypes (a mismatch is an InternalError), takes
// the kernel's scratch from the allocator, and calls the backend; the dry run stops before the
// call. The argument structs, with shapes, dtypes and aliasing, are in kernels/<op>.h; leave their
// `workspace` empty.
#pragma once

#include "gpt2train/ops/exec.h"

namespace gpt2train::ops {

void embedding_forward(const Exec& exec, const EmbeddingForward& args);
void embedding_backward(const Exec& exec, EmbeddingBackward args);

void matmul(const Exec& exec, Matmul args);
void bias_backward(const Exec& exec, BiasBackward args);

void layernorm_forward(const Exec& exec, const LayerNormForward& args);
void layernorm_backward(const Exec& exec, LayerNormBackward args);
void layernorm_recompute(const Exec& exec, const LayerNormRecompute& args);

void residual_forward(const Exec& exec, const ResidualForward& args);
void dropout_backward(const Exec& exec, const DropoutBackward& args);

void gelu_forward(const Exec& exec, const GeluForward& args);
void gelu_backward(const Exec& exec, const GeluBackward& args);

void attention_forward(const Exec& exec, AttentionForward args);
void attention_backward(const Exec& exec, AttentionBackward args);
void attention_cached(const Exec& exec, const AttentionCached& args);

void cross_entropy(const Exec& exec, const CrossEntropy& args);
void loss_sum(const Exec& exec, const LossSum& args);

void grad_norm(const Exec& exec, GradNorm args);
void adamw(const Exec& exec, const AdamW& args);

void fill(const Exec& exec, const Fill& args);
void cast(const Exec& exec, const Cast& args);

// Host memory to a tensor's and back, `bytes()` of the view; see KernelTable for when they finish.
void upload(const Exec& exec, const TensorView& to, const void* from);
void download(const Exec& exec, void* to, const TensorView& from);

}  // namespace gpt2train::ops
