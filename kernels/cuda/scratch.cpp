#include "kernels/cuda/scratch.h"

namespace gpt2train::cuda {
namespace {

std::size_t partial_sums_bytes(std::int64_t rows, std::int64_t width, int sums) {
  return static_cast<std::size_t>(RowBlocks(rows).count * width * sums) * sizeof(float);
}

}  // namespace

std::size_t embedding_backward_workspace(const EmbeddingBackward& a) {
  return TokenSort(a).bytes;
}

std::size_t matmul_workspace(const Matmul&) {
  return kMatmulWorkspaceBytes;
}

std::size_t bias_backward_workspace(const BiasBackward& a) {
  return partial_sums_bytes(a.d_out.rows(), a.d_out.width(), 1);
}

std::size_t layernorm_backward_workspace(const LayerNormBackward& a) {
  return partial_sums_bytes(a.in.rows(), a.in.width(), 2);  // of gamma and beta
}

std::size_t attention_forward_workspace(const AttentionForward&) {
  return 0;
}

std::size_t attention_backward_workspace(const AttentionBackward& a) {
  return static_cast<std::size_t>(a.lse.count()) * sizeof(float);  // a dot product a row
}

std::size_t attention_forward_cudnn_workspace(const AttentionForward& a) {
  return CudnnScratch(shape_of(a)).forward;
}

std::size_t attention_backward_cudnn_workspace(const AttentionBackward& a) {
  const CudnnScratch scratch(shape_of(a));
  return scratch.dots + scratch.backward;
}

std::size_t grad_norm_workspace(const GradNorm& a) {
  return static_cast<std::size_t>(norm_pieces(a)) * sizeof(double);
}

}  // namespace gpt2train::cuda

namespace gpt2train {

const KernelTable& cuda_scratch() {
  static const KernelTable kTable = [] {
    KernelTable table;
    table.name = "cuda";
    table.has_own_memory = true;
    table.embedding_backward_workspace = cuda::embedding_backward_workspace;
    table.matmul_workspace = cuda::matmul_workspace;
    table.bias_backward_workspace = cuda::bias_backward_workspace;
    table.layernorm_backward_workspace = cuda::layernorm_backward_workspace;
    table.attention_forward_workspace = cuda::attention_forward_workspace;
    table.attention_backward_workspace = cuda::attention_backward_workspace;
    table.grad_norm_workspace = cuda::grad_norm_workspace;
    return table;
  }();
  return kTable;
}

const KernelTable& cuda_scratch_with_cudnn() {
  static const KernelTable kTable = [] {
    KernelTable table = cuda_scratch();
    table.attention_forward_workspace = cuda::attention_forward_cudnn_workspace;
    table.attention_backward_workspace = cuda::attention_backward_cudnn_workspace;
    return table;
  }();
  return kTable;
}

}  // namespace gpt2train
