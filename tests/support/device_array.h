// An array that both a kernel under test and the test itself can use: heap memory for kernels of
// the host, managed memory for those of a GPU.
#pragma once

#include <cstddef>
#include <vector>

#if defined(GPT2TRAIN_TEST_CUDA) && !defined(GPT2TRAIN_EMULATE)
#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#define GPT2TRAIN_TEST_GPU
#endif

namespace gpt2train::test {

// Waits for the kernels launched so far; their faults throw DeviceError.
inline void synchronise() {
#ifdef GPT2TRAIN_TEST_GPU
  GPT2_CUDA_CHECK(cudaDeviceSynchronize());
#endif
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    for (std::size_t i = 0; i < count_; ++i) data_[i] = values[i];
  }
  explicit DeviceArray(std::size_t count, T value = {}) : count_(count) {
#ifdef GPT2TRAIN_TEST_GPU
    GPT2_CUDA_CHECK(cudaMallocManaged(reinterpret_cast<void**>(&data_), count * sizeof(T)));
#else
    data_ = new T[count];
#endif
    for (std::size_t i = 0; i < count; ++i) data_[i] = value;
  }
  ~DeviceArray() {
#ifdef GPT2TRAIN_TEST_GPU
    cudaFree(data_);
#else
    delete[] data_;
#endif
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const {
    return data_;
  }
  std::size_t size() const {
    return count_;
  }
  std::vector<T> values() const {
    synchronise();
    return {data_, data_ + count_};
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

}  // namespace gpt2train::test
