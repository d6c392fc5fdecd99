#include "kernels/cuda/cudnn_graph.h"

#include <algorithm>

namespace gpt2train::cuda {
namespace {

constexpr cudnnDataType_t kComputeType = CUDNN_DATA_FLOAT;

// What cuDNN's heuristics offer, best first.
std::vector<CudnnDescriptor> offers(const CudnnDescriptor& graph, const CudnnDescriptor& device,
                                    cudnnBackendHeurMode_t mode) {
  CudnnDescriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
  heuristics.finalize();
  const auto results = [&](std::span<cudnnBackendDescriptor_t> into) {
    std::int64_t count = 0;
    GPT2_CUDNN_CHECK(cudnn().get_attribute(
        heuristics.handle(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
        static_cast<std::int64_t>(into.size()), &count, into.data()));
    return static_cast<std::size_t>(count);
  };
  std::vector<CudnnDescriptor> configs;
  std::vector<cudnnBackendDescriptor_t> handles;
  for (std::size_t i = results({}); i > 0; --i) {
    handles.push_back(configs.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR).handle());
  }
  if (handles.empty()) return configs;
  for (std::size_t i = results(handles); i < handles.size(); ++i) configs.pop_back();
  return configs;
}

bool is_deterministic(const CudnnDescriptor& config) {
  const CudnnDescriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t handle = engine.handle();
  std::int64_t count = 0;
  GPT2_CUDNN_CHECK(cudnn().get_attribute(config.handle(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &handle));
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes = {};
  GPT2_CUDNN_CHECK(cudnn().get_attribute(handle, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                         CUDNN_TYPE_NUMERICAL_NOTE, notes.size(), &count,
                                         notes.data()));
  const auto end = notes.begin() + count;
  return std::find(notes.begin(), end, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) == end;
}

// Compiles for the device that the offer was made for; nothing where cuDNN cannot, or takes too
// much scratch.
std::optional<CudnnDescriptor> try_plan(const CudnnDescriptor& config,
                                        std::size_t workspace_bytes) {
  CudnnDescriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
  if (cudnn().finalize(plan.handle()) != CUDNN_STATUS_SUCCESS) return std::nullopt;
  std::int64_t bytes = 0, count = 0;
  GPT2_CUDNN_CHECK(cudnn().get_attribute(plan.handle(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                         CUDNN_TYPE_INT64, 1, &count, &bytes));
  if (static_cast<std::size_t>(bytes) > workspace_bytes) return std::nullopt;
  return plan;
}

}  // namespace

void CudnnPlan::run(std::span<const CudnnArgument> arguments, const Workspace& workspace,
                    cudnnHandle_t handle) const {
  std::vector<std::int64_t> ids;
  std::vector<const void*> data;
  for (const CudnnArgument& argument : arguments) {
    ids.push_back(argument.id);
    data.push_back(argument.data);
  }
  CudnnDescriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64,
           std::span<const std::int64_t>(ids));
  pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
           std::span<const void* const>(data));
  pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace.data);
  pack.finalize();
  GPT2_CUDNN_CHECK(cudnn().execute(handle, plan_.handle(), pack.handle()));
}

CudnnDescriptor& CudnnGraph::add(cudnnBackendDescriptorType_t type) {
  return *parts_.emplace_back(std::make_unique<CudnnDescriptor>(type));
}

void CudnnGraph::add_operation(CudnnDescriptor& operation) {
  operation.finalize();
  operations_.push_back(operation.handle());
}

CudnnGraph::Tensor CudnnGraph::add_tensor(std::int64_t id, cudnnDataType_t type,
                                          const CudnnLayout& layout,
                                          std::optional<cudnnBackendAttributeName_t> kind) {
  constexpr std::int64_t kAlignment = 16;
  CudnnDescriptor& tensor = add(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id);
  tensor.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type);
  tensor.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64,
             std::span<const std::int64_t>(layout.sizes));
  tensor.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64,
             std::span<const std::int64_t>(layout.strides));
  tensor.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, kAlignment);
  if (kind) tensor.set(*kind, CUDNN_TYPE_BOOLEAN, true);
  tensor.finalize();
  return tensor.handle();
}

CudnnGraph::Tensor CudnnGraph::outer(std::int64_t id, cudnnDataType_t type,
                                     const CudnnLayout& layout) {
  return add_tensor(id, type, layout);
}

CudnnGraph::Tensor CudnnGraph::scalar(std::int64_t id) {
  return add_tensor(id, CUDNN_DATA_FLOAT, {{1, 1, 1, 1}, {1, 1, 1, 1}},
                    CUDNN_ATTR_TENSOR_IS_BY_VALUE);
}

CudnnGraph::Tensor CudnnGraph::inner(cudnnDataType_t type, const CudnnLayout& layout) {
  return add_tensor(next_inner_++, type, layout, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
}

void CudnnGraph::matmul(Tensor out, Tensor a, Tensor b) {
  CudnnDescriptor& product = add(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  product.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, kComputeType);
  product.finalize();
  CudnnDescriptor& operation = add(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, product);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, a);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, b);
  operation.set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, out);
  add_operation(operation);
}

void CudnnGraph::pointwise(cudnnPointwiseMode_t mode, Tensor out, Tensor x, Tensor b, Tensor t) {
  CudnnDescriptor& function = add(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  add_pointwise(function, out, x, b, t);
}

void CudnnGraph::index(Tensor out, Tensor like, std::int64_t axis) {
  CudnnDescriptor& function = add(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  function.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_GEN_INDEX);
  function.set(CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, axis);
  add_pointwise(function, out, like, nullptr, nullptr);
}

void CudnnGraph::add_pointwise(CudnnDescriptor& function, Tensor out, Tensor x, Tensor b,
                               Tensor t) {
  function.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, kComputeType);
  function.finalize();
  CudnnDescriptor& operation = add(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
  const auto bind = [&](cudnnBackendAttributeName_t name, Tensor tensor) {
    if (tensor != nullptr) operation.set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, tensor);
  };
  bind(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  bind(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
  bind(CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t);
  bind(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out);
  add_operation(operation);
}

void CudnnGraph::reduce(cudnnReduceTensorOp_t how, Tensor out, Tensor in) {
  CudnnDescriptor& reduction = add(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  reduction.set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, how);
  reduction.set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, kComputeType);
  reduction.finalize();
  CudnnDescriptor& operation = add(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_DESC, reduction);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, in);
  operation.set(CUDNN_ATTR_OPERATION_REDUCTION_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, out);
  add_operation(operation);
}

void CudnnGraph::reshape(Tensor out, Tensor in) {
  CudnnDescriptor& operation = add(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, in);
  operation.set(CUDNN_ATTR_OPERATION_RESHAPE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, out);
  add_operation(operation);
}

CudnnPlan CudnnGraph::plan(const CudnnDescriptor& device, std::size_t workspace_bytes) {
  CudnnDescriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            std::span<const cudnnBackendDescriptor_t>(operations_));
  graph.finalize();
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    for (const CudnnDescriptor& config : offers(graph, device, mode)) {
      if (!is_deterministic(config)) continue;
      if (auto plan = try_plan(config, workspace_bytes)) return CudnnPlan(std::move(*plan));
    }
  }
  throw DeviceError(concat("cuDNN has no deterministic plan within ", workspace_bytes,
                           " bytes of scratch here; CUDNN_LOGLEVEL_DBG=2 shows why"));
}

}  // namespace gpt2train::cuda
