// cuDNN's graph interface, from a library that is opened when it is first asked for: a machine
// without it still has the rest of the CUDA backend.
#pragma once

#include <cudnn_graph.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gpt2train/core/error.h"

namespace gpt2train::cuda {

// The functions of libcudnn.so.9 that are used here.
struct Cudnn {
  decltype(&cudnnGetVersion) version = nullptr;
  decltype(&cudnnGetErrorString) error_string = nullptr;
  decltype(&cudnnGetLastErrorString) last_error_string = nullptr;
  decltype(&cudnnCreate) create = nullptr;
  decltype(&cudnnSetStream) set_stream = nullptr;
  decltype(&cudnnBackendCreateDescriptor) create_descriptor = nullptr;
  decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor = nullptr;
  decltype(&cudnnBackendSetAttribute) set_attribute = nullptr;
  decltype(&cudnnBackendGetAttribute) get_attribute = nullptr;
  decltype(&cudnnBackendFinalize) finalize = nullptr;
  decltype(&cudnnBackendExecute) execute = nullptr;
};

// Throws DeviceError, with the reason, where there is no library or too old a one.
const Cudnn& cudnn();

std::string cudnn_last_error();

inline void check_cudnn(cudnnStatus_t status, const char* call, const char* file, int line) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  throw DeviceError(concat(call, " at ", file, ':', line, ": ", cudnn().error_string(status), ": ",
                           cudnn_last_error()));
}
#define GPT2_CUDNN_CHECK(call) ::gpt2train::cuda::check_cudnn((call), #call, __FILE__, __LINE__)

// An object of cuDNN's: it gets its attributes, then is finalized, and only then of use.
class CudnnDescriptor {
 public:
  explicit CudnnDescriptor(cudnnBackendDescriptorType_t type) {
    GPT2_CUDNN_CHECK(cudnn().create_descriptor(type, &handle_));
  }
  ~CudnnDescriptor() {
    if (handle_ != nullptr) static_cast<void>(cudnn().destroy_descriptor(handle_));
  }
  CudnnDescriptor(const CudnnDescriptor&) = delete;
  CudnnDescriptor& operator=(const CudnnDescriptor&) = delete;
  CudnnDescriptor(CudnnDescriptor&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)) {}
  CudnnDescriptor& operator=(CudnnDescriptor&&) = delete;

  cudnnBackendDescriptor_t handle() const { return handle_; }

  template <class Value>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
           std::span<const Value> values) {
    GPT2_CUDNN_CHECK(cudnn().set_attribute(
        handle_, name, type, static_cast<std::int64_t>(values.size()), values.data()));
  }
  template <class Value>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const Value& value) {
    set(name, type, std::span<const Value>(&value, 1));
  }
  void set(cudnnBackendAttributeName_t name, const CudnnDescriptor& value) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, value.handle_);
  }
  void finalize() { GPT2_CUDNN_CHECK(cudnn().finalize(handle_)); }

 private:
  cudnnBackendDescriptor_t handle_ = nullptr;
};

}  // namespace gpt2train::cuda
