// An array that both a kernel under test and the test itself can use: heap memory on the emulator,
// managed memory on a GPU.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/cuda/gpu.h"

namespace gpt2train::test {

// Waits for the kernels launched so far; their faults throw DeviceError.
inline void synchronise() {
#ifndef GPT2TRAIN_EMULATE
  GPT2_CUDA_CHECK(cudaDeviceSynchronize());
#endif
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    for (std::size_t i = 0; i < count_; ++i) data_[i] = values[i];
  }
  explicit DeviceArray(std::size_t count) : count_(count) {
#ifdef GPT2TRAIN_EMULATE
    data_ = new T[count]();
#else
    GPT2_CUDA_CHECK(cudaMallocManaged(&data_, count * sizeof(T)));
    GPT2_CUDA_CHECK(cudaMemset(data_, 0, count * sizeof(T)));
#endif
  }
  ~DeviceArray() {
#ifdef GPT2TRAIN_EMULATE
    delete[] data_;
#else
    cudaFree(data_);
#endif
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const {
    return data_;
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
