#include "kernels/cuda/cuda_kernels.h"

namespace gpt2train {

const KernelTable& cuda_kernels() {
  static const KernelTable kTable = [] {
    KernelTable table = cuda_scratch();
    table.embedding_forward = cuda::embedding_forward;
    table.embedding_backward = cuda::embedding_backward;
    table.matmul = cuda::matmul;
    table.bias_backward = cuda::bias_backward;
    table.layernorm_forward = cuda::layernorm_forward;
    table.layernorm_backward = cuda::layernorm_backward;
    table.layernorm_recompute = cuda::layernorm_recompute;
    table.residual_forward = cuda::residual_forward;
    table.dropout_backward = cuda::dropout_backward;
    table.gelu_forward = cuda::gelu_forward;
    table.gelu_backward = cuda::gelu_backward;
    table.attention_forward = cuda::attention_forward;
    table.attention_backward = cuda::attention_backward;
    table.attention_cached = cuda::attention_cached;
    table.cross_entropy = cuda::cross_entropy;
    table.loss_sum = cuda::loss_sum;
    table.grad_norm = cuda::grad_norm;
    table.adamw = cuda::adamw;
    table.fill = cuda::fill;
    table.cast = cuda::cast;
    table.upload = cuda::upload;
    table.download = cuda::download;
    table.begin_range = cuda::begin_range;
    table.end_range = cuda::end_range;
    return table;
  }();
  return kTable;
}

#ifdef GPT2TRAIN_CUDNN
const KernelTable& cuda_kernels_with_cudnn(const AttentionShape& shape) {
  static const KernelTable kTable = [] {
    KernelTable table = cuda_kernels();
    table.attention_forward = cuda::attention_forward_cudnn;
    table.attention_backward = cuda::attention_backward_cudnn;
    table.attention_forward_workspace = cuda::attention_forward_cudnn_workspace;
    table.attention_backward_workspace = cuda::attention_backward_cudnn_workspace;
    return table;
  }();
  cuda::make_attention_plans_cudnn(shape);
  return kTable;
}
#endif

}  // namespace gpt2train
