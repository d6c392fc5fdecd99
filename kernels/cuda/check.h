// CUDA's error codes as exceptions that say which call failed, and where.
#pragma once

#include <cuda_runtime_api.h>

#include "gpt2train/core/error.h"

namespace gpt2train::cuda {

// A fault of a kernel stays with the context, so there is nothing to retry.
inline void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw DeviceError(concat(call, " at ", file, ':', line, ": ", cudaGetErrorName(status), ": ",
                           cudaGetErrorString(status)));
}

}  // namespace gpt2train::cuda

#define GPT2_CUDA_CHECK(call) ::gpt2train::cuda::check((call), #call, __FILE__, __LINE__)
