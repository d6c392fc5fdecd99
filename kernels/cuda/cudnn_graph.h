// A graph of tensors and operations that cuDNN makes one kernel of, and the plan it makes.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/cuda/cudnn.h"
#include "kernels/stream.h"
#include "kernels/workspace.h"

namespace gpt2train::cuda {

// Four dimensions, as attention has them, and the elements from one index to the next.
struct CudnnLayout {
  std::array<std::int64_t, 4> sizes = {};
  std::array<std::int64_t, 4> strides = {};

  // Read with the last two exchanged; the memory is the same.
  CudnnLayout transposed() const {
    return {{sizes[0], sizes[1], sizes[3], sizes[2]},
            {strides[0], strides[1], strides[3], strides[2]}};
  }
};

// Where a tensor that a graph calls by this id is: device memory, or the host's for a scalar.
struct CudnnArgument {
  std::int64_t id = 0;
  const void* data = nullptr;
};

class CudnnPlan {
 public:
  explicit CudnnPlan(CudnnDescriptor plan) : plan_(std::move(plan)) {}

  void run(std::span<const CudnnArgument> arguments, const Workspace& workspace,
           cudnnHandle_t handle) const;

 private:
  CudnnDescriptor plan_;
};

class CudnnGraph {
 public:
  using Tensor = cudnnBackendDescriptor_t;  // lives as long as the graph

  // A tensor that run() is given by this id, below kFirstInner; rows begin at multiples of 16
  // bytes.
  Tensor outer(std::int64_t id, cudnnDataType_t type, const CudnnLayout& layout);
  // One fp32 value that run() is given, in host memory.
  Tensor scalar(std::int64_t id);
  // A tensor between operations, which never is in memory as a whole.
  Tensor inner(cudnnDataType_t type, const CudnnLayout& layout);

  void matmul(Tensor out, Tensor a, Tensor b);
  void pointwise(cudnnPointwiseMode_t mode, Tensor out, Tensor x, Tensor b = nullptr,
                 Tensor t = nullptr);
  void index(Tensor out, Tensor like, std::int64_t axis);  // out = the element's place on the axis
  void reduce(cudnnReduceTensorOp_t operation, Tensor out, Tensor in);  // over the last dimension
  void reshape(Tensor out, Tensor in);

  // cuDNN's first choice for `device` that gives the same bits every time and takes no more scratch
  // than that. Throws DeviceError where it has none.
  CudnnPlan plan(const CudnnDescriptor& device, std::size_t workspace_bytes);

 private:
  static constexpr std::int64_t kFirstInner = 1000;

  Tensor add_tensor(std::int64_t id, cudnnDataType_t type, const CudnnLayout& layout,
                    std::optional<cudnnBackendAttributeName_t> kind = {});
  CudnnDescriptor& add(cudnnBackendDescriptorType_t type);
  void add_operation(CudnnDescriptor& operation);
  void add_pointwise(CudnnDescriptor& function, Tensor out, Tensor x, Tensor b, Tensor t);

  std::vector<std::unique_ptr<CudnnDescriptor>> parts_;
  std::vector<cudnnBackendDescriptor_t> operations_;
  std::int64_t next_inner_ = kFirstInner;
};

}  // namespace gpt2train::cuda
