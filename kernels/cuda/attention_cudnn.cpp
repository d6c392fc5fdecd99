// Attention by cuDNN's fused kernels. Strides describe the packed tensors, so nothing is copied.
// The log-sum-exp is the native kernels': natural, of scaled scores. Where they add to dq in any
// order, cuDNN's fast gradients are not the same bits every time; asked for through a matrix of
// scores' gradients in scratch, (B, H, T, T) in 16 bits, they are.
#include "kernels/attention.h"

#include <cmath>
#include <map>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/cudnn_graph.h"

namespace gpt2train::cuda {
namespace {

enum Id : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kOut,
  kLse,
  kDOut,
  kDQ,
  kDK,
  kDV,
  kDots,
  kScale,
  kMasked,
  kOne,
};

constexpr float kOneValue = 1.0f, kMaskedValue = -INFINITY;

cudnnDataType_t type_of(DType dtype) {
  if (dtype == DType::kBFloat16) return CUDNN_DATA_BFLOAT16;
  if (dtype == DType::kFloat16) return CUDNN_DATA_HALF;
  throw InternalError(concat("attention by cuDNN: no kernel for dtype ", name_of(dtype)));
}

// How tensors lie in memory, each as (B, H, rows, columns).
class Layouts {
 public:
  explicit Layouts(const AttentionShape& shape) : s_(shape), type_(type_of(shape.dtype)) {}

  CudnnLayout packed() const { return heads_of(3 * s_.heads * s_.head_size); }  // (B, T, 3C)
  CudnnLayout plain() const { return heads_of(s_.heads * s_.head_size); }       // (B, T, C)
  CudnnLayout scores() const { return dense(s_.time, s_.time); }                // query, key
  CudnnLayout row_values() const { return dense(s_.time, 1); }
  cudnnDataType_t type() const { return type_; }

 private:
  CudnnLayout heads_of(std::int64_t width) const {
    return {{s_.batch, s_.heads, s_.time, s_.head_size}, {s_.time * width, s_.head_size, width, 1}};
  }
  CudnnLayout dense(std::int64_t rows, std::int64_t columns) const {
    return {{s_.batch, s_.heads, rows, columns},
            {s_.heads * rows * columns, rows * columns, columns, 1}};
  }

  AttentionShape s_;
  cudnnDataType_t type_;
};

using Tensor = CudnnGraph::Tensor;

Tensor fp32(CudnnGraph& graph, const CudnnLayout& layout) {
  return graph.inner(CUDNN_DATA_FLOAT, layout);
}

// q k^T, scaled.
Tensor scaled_scores(CudnnGraph& graph, const Layouts& t, Tensor q, Tensor k, Tensor scale) {
  const Tensor product = fp32(graph, t.scores()), scaled = fp32(graph, t.scores());
  graph.matmul(product, q, k);
  graph.pointwise(CUDNN_POINTWISE_MUL, scaled, product, scale);
  return scaled;
}

// Minus infinity where the key comes after the query.
Tensor causal(CudnnGraph& graph, const Layouts& t, Tensor scores) {
  const Tensor query = graph.inner(CUDNN_DATA_INT32, t.scores()),
               key = graph.inner(CUDNN_DATA_INT32, t.scores()),
               seen = graph.inner(CUDNN_DATA_BOOLEAN, t.scores()), masked = fp32(graph, t.scores());
  graph.index(query, scores, 2);
  graph.index(key, scores, 3);
  graph.pointwise(CUDNN_POINTWISE_CMP_GE, seen, query, key);
  graph.pointwise(CUDNN_POINTWISE_BINARY_SELECT, masked, scores, graph.scalar(kMasked), seen);
  return masked;
}

CudnnPlan forward_plan(const AttentionShape& shape, const CudnnDescriptor& device,
                       std::size_t workspace_bytes) {
  const Layouts t(shape);
  CudnnGraph graph;
  const Tensor q = graph.outer(kQ, t.type(), t.packed()),
               k = graph.outer(kK, t.type(), t.packed().transposed()),
               v = graph.outer(kV, t.type(), t.packed()),
               out = graph.outer(kOut, t.type(), t.plain()),
               lse = graph.outer(kLse, CUDNN_DATA_FLOAT, t.row_values());
  const Tensor scores = causal(graph, t, scaled_scores(graph, t, q, k, graph.scalar(kScale)));
  const Tensor largest = fp32(graph, t.row_values()), sum = fp32(graph, t.row_values()),
               log_sum = fp32(graph, t.row_values()), shifted = fp32(graph, t.scores()),
               powers = fp32(graph, t.scores()), probabilities = graph.inner(t.type(), t.scores());
  graph.reduce(CUDNN_REDUCE_TENSOR_MAX, largest, scores);
  graph.pointwise(CUDNN_POINTWISE_SUB, shifted, scores, largest);
  graph.pointwise(CUDNN_POINTWISE_EXP, powers, shifted);
  graph.reduce(CUDNN_REDUCE_TENSOR_ADD, sum, powers);
  graph.pointwise(CUDNN_POINTWISE_LOG, log_sum, sum);
  graph.pointwise(CUDNN_POINTWISE_ADD, lse, log_sum, largest);
  graph.pointwise(CUDNN_POINTWISE_DIV, probabilities, powers, sum);
  graph.matmul(out, probabilities, v);
  return graph.plan(device, workspace_bytes);
}

CudnnPlan backward_plan(const AttentionShape& shape, const CudnnDescriptor& device,
                        std::size_t workspace_bytes) {
  const Layouts t(shape);
  CudnnGraph graph;
  const Tensor q = graph.outer(kQ, t.type(), t.packed()),
               k = graph.outer(kK, t.type(), t.packed().transposed()),
               v = graph.outer(kV, t.type(), t.packed().transposed()),
               out = graph.outer(kOut, t.type(), t.plain()),
               d_out = graph.outer(kDOut, t.type(), t.plain()),
               lse = graph.outer(kLse, CUDNN_DATA_FLOAT, t.row_values()),
               d_q = graph.outer(kDQ, t.type(), t.packed()),
               d_k = graph.outer(kDK, t.type(), t.packed()),
               d_v = graph.outer(kDV, t.type(), t.packed()),
               dots = graph.outer(kDots, CUDNN_DATA_FLOAT, t.row_values());
  const Tensor scale = graph.scalar(kScale);

  // What the softmax's gradient subtracts: a dot product a row. cuDNN knows the pattern with the
  // factor of dropout in it.
  const Tensor products = fp32(graph, t.plain()), sums = fp32(graph, t.row_values());
  graph.pointwise(CUDNN_POINTWISE_MUL, products, d_out, out);
  graph.reduce(CUDNN_REDUCE_TENSOR_ADD, sums, products);
  graph.pointwise(CUDNN_POINTWISE_MUL, dots, sums, graph.scalar(kOne));

  // d_v = p^T d_out
  const Tensor shifted = fp32(graph, t.scores()), p = fp32(graph, t.scores()),
               p_transposed = graph.inner(t.type(), t.scores().transposed());
  graph.pointwise(CUDNN_POINTWISE_SUB, shifted, scaled_scores(graph, t, q, k, scale), lse);
  graph.pointwise(CUDNN_POINTWISE_EXP, p, causal(graph, t, shifted));
  graph.reshape(p_transposed, p);
  graph.matmul(d_v, p_transposed, d_out);

  // d_k = d_s^T q, d_q = d_s k
  const Tensor d_p = fp32(graph, t.scores()), centred = fp32(graph, t.scores()),
               weighted = fp32(graph, t.scores()), d_s = fp32(graph, t.scores()),
               d_s_transposed = graph.inner(t.type(), t.scores().transposed()),
               k_rows = fp32(graph, t.packed());
  graph.matmul(d_p, d_out, v);
  graph.pointwise(CUDNN_POINTWISE_SUB, centred, d_p, dots);
  graph.pointwise(CUDNN_POINTWISE_MUL, weighted, centred, p);
  graph.pointwise(CUDNN_POINTWISE_MUL, d_s, weighted, scale);
  graph.reshape(d_s_transposed, d_s);
  graph.matmul(d_k, d_s_transposed, q);
  graph.reshape(k_rows, k);
  graph.matmul(d_q, d_s, k_rows);
  return graph.plan(device, workspace_bytes);
}

// ---- plans by shape -----------------------------------------------------------------------------

const CudnnDescriptor& this_device() {
  static const CudnnDescriptor kDevice = [] {
    CudnnDescriptor device(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    device.set(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, std::int32_t{0});
    device.finalize();
    return device;
  }();
  return kDevice;
}

using MakePlan = CudnnPlan (*)(const AttentionShape&, const CudnnDescriptor&, std::size_t);

// What `make` made for this shape. Scratch is a function of the shape, so it is no part of the key.
template <MakePlan kMake>
const CudnnPlan& plan_of(const AttentionShape& shape, std::size_t workspace_bytes) {
  static std::map<AttentionShape, CudnnPlan> plans;
  auto found = plans.find(shape);
  if (found == plans.end()) {
    found = plans.emplace(shape, kMake(shape, this_device(), workspace_bytes)).first;
  }
  return found->second;
}

cudnnHandle_t handle_on(Stream stream) {
  static const cudnnHandle_t kHandle = [] {
    cudnnHandle_t made = nullptr;
    GPT2_CUDNN_CHECK(cudnn().create(&made));
    return made;
  }();
  GPT2_CUDNN_CHECK(cudnn().set_stream(kHandle, static_cast<cudaStream_t>(stream.handle)));
  return kHandle;
}

float scale_of(const AttentionShape& shape) {
  return 1.0f / std::sqrt(static_cast<float>(shape.head_size));
}

// q, k or v of a packed tensor.
const void* part(const TensorView& packed, int which) {
  const auto bytes = static_cast<std::size_t>(packed.width() / 3) * size_of(packed.dtype);
  return static_cast<const std::byte*>(packed.data) + static_cast<std::size_t>(which) * bytes;
}

}  // namespace

void attention_forward_cudnn(const AttentionForward& a, Stream stream) {
  const AttentionShape shape = shape_of(a);
  const float scale = scale_of(shape);
  const CudnnArgument arguments[] = {
      {kQ, part(a.qkv, 0)}, {kK, part(a.qkv, 1)}, {kV, part(a.qkv, 2)},     {kOut, a.out.data},
      {kLse, a.lse.data},   {kScale, &scale},     {kMasked, &kMaskedValue},
  };
  plan_of<forward_plan>(shape, CudnnScratch(shape).forward)
      .run(arguments, a.workspace, handle_on(stream));
}

void attention_backward_cudnn(const AttentionBackward& a, Stream stream) {
  const AttentionShape shape = shape_of(a);
  const CudnnScratch scratch(shape);
  const float scale = scale_of(shape);
  std::byte* const dots = static_cast<std::byte*>(a.workspace.data);
  const CudnnArgument arguments[] = {
      {kQ, part(a.qkv, 0)},    {kK, part(a.qkv, 1)},    {kV, part(a.qkv, 2)},
      {kOut, a.out.data},      {kLse, a.lse.data},      {kDOut, a.d_out.data},
      {kDQ, part(a.d_qkv, 0)}, {kDK, part(a.d_qkv, 1)}, {kDV, part(a.d_qkv, 2)},
      {kDots, dots},           {kScale, &scale},        {kMasked, &kMaskedValue},
      {kOne, &kOneValue},
  };
  plan_of<backward_plan>(shape, scratch.backward)
      .run(arguments, {dots + scratch.dots, scratch.backward}, handle_on(stream));
}

void make_attention_plans_cudnn(const AttentionShape& shape) {
  plan_of<forward_plan>(shape, CudnnScratch(shape).forward);
  plan_of<backward_plan>(shape, CudnnScratch(shape).backward);
}

}  // namespace gpt2train::cuda
