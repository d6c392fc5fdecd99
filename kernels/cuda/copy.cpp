// Between host memory and the device's, or that which is the host's and the device reaches.
#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_kernels.h"

namespace gpt2train::cuda {

// The runtime has read pageable memory by the time it returns; pinned memory is read later.
void upload(void* to, const void* from, std::size_t bytes, Stream stream) {
  GPT2_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault,
                                  static_cast<cudaStream_t>(stream.handle)));
}

void download(void* to, const void* from, std::size_t bytes, Stream stream) {
  const auto queue = static_cast<cudaStream_t>(stream.handle);
  GPT2_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, queue));
  GPT2_CUDA_CHECK(cudaStreamSynchronize(queue));
}

}  // namespace gpt2train::cuda
