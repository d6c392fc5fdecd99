// Every kernel and workspace query of the CPU backend; table.cpp lists them.
#pragma once

#include <cstddef>

#include "kernels/table.h"

namespace gpt2train::cpu {

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
void cross_entropy(const CrossEntropy& args, Stream);
void loss_sum(const LossSum& args, Stream);
void grad_norm(const GradNorm& args, Stream);
void adamw(const AdamW& args, Stream);
void fill(const Fill& args, Stream);
void cast(const Cast& args, Stream);

void upload(void* to, const void* from, std::size_t bytes, Stream);
void download(void* to, const void* from, std::size_t bytes, Stream);

std::size_t embedding_backward_workspace(const EmbeddingBackward& args);
std::size_t matmul_workspace(const Matmul& args);
std::size_t bias_backward_workspace(const BiasBackward& args);
std::size_t layernorm_backward_workspace(const LayerNormBackward& args);
std::size_t attention_forward_workspace(const AttentionForward& args);
std::size_t attention_backward_workspace(const AttentionBackward& args);
std::size_t grad_norm_workspace(const GradNorm& args);

}  // namespace gpt2train::cpu
