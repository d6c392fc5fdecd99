// The hand-written kernels as entries of a table. What libraries and the runtime do is added by
// the backend, or by the emulator's tests.
#include "kernels/cuda/cuda_kernels.h"

namespace gpt2train::cuda {

KernelTable own_kernels() {
  KernelTable table;
  table.embedding_forward = embedding_forward;
  table.embedding_backward = embedding_backward;
  table.bias_backward = bias_backward;
  table.layernorm_forward = layernorm_forward;
  table.layernorm_backward = layernorm_backward;
  table.layernorm_recompute = layernorm_recompute;
  table.residual_forward = residual_forward;
  table.dropout_backward = dropout_backward;
  table.gelu_forward = gelu_forward;
  table.gelu_backward = gelu_backward;
  table.attention_forward = attention_forward;
  table.attention_backward = attention_backward;
  table.cross_entropy = cross_entropy;
  table.loss_sum = loss_sum;
  table.grad_norm = grad_norm;
  table.adamw = adamw;
  table.fill = fill;
  table.cast = cast;
  table.embedding_backward_workspace = embedding_backward_workspace;
  table.bias_backward_workspace = bias_backward_workspace;
  table.layernorm_backward_workspace = layernorm_backward_workspace;
  table.attention_forward_workspace = attention_forward_workspace;
  table.attention_backward_workspace = attention_backward_workspace;
  table.grad_norm_workspace = grad_norm_workspace;
  return table;
}

}  // namespace gpt2train::cuda
