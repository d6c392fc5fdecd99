// Every kernel of the CUDA backend; table.cpp lists them.
#pragma once

#include <cstddef>

#include "kernels/cuda/scratch.h"
#include "kernels/table.h"

namespace gpt2train::cuda {

void embedding_forward(const EmbeddingForward& args, Stream);
void embedding_backward(const EmbeddingBackward& args, Stream);
void matmul(const Matmul& args, Stream);
void bias_backward(const BiasBackward& args, Stream);
void layernorm_forward(const LayerNormForward& args, Stream);
void layernorm_backward(const LayerNormBackward& args, Stream);
void layernorm_recompute(const LayerNormRecompute& args, Stream);
void residual_forward(const ResidualForward& args, Stream);
void dropout_backward(const DropoutBackward& args, Stream);
void gelu_forward(const GeluForward& args, Stream);
void gelu_backward(const GeluBackward& args, Stream);
void attention_forward(const AttentionForward& args, Stream);
void attention_backward(const AttentionBackward& args, Stream);
void attention_cached(const AttentionCached& args, Stream);
// By cuDNN, where the build has it. Throw DeviceError where cuDNN has no plan for the shape; the
// last only makes its plans, or throws.
void attention_forward_cudnn(const AttentionForward& args, Stream);
void attention_backward_cudnn(const AttentionBackward& args, Stream);
void make_attention_plans_cudnn(const AttentionShape& shape);
void cross_entropy(const CrossEntropy& args, Stream);
void loss_sum(const LossSum& args, Stream);
void grad_norm(const GradNorm& args, Stream);
void adamw(const AdamW& args, Stream);
void fill(const Fill& args, Stream);
void cast(const Cast& args, Stream);

void upload(void* to, const void* from, std::size_t bytes, Stream);
void download(void* to, const void* from, std::size_t bytes, Stream);

void begin_range(const char* name);
void end_range();

}  // namespace gpt2train::cuda

namespace gpt2train {

const KernelTable& cuda_kernels();

// The same with cuDNN's attention for `shape` and for other batches of it. Throws DeviceError, with
// the reason, where that is not to be had.
const KernelTable& cuda_kernels_with_cudnn(const AttentionShape& shape);

}  // namespace gpt2train
