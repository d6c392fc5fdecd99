// The tests of the CUDA kernels and of the device vocabulary, on a GPU. Where none is, it exits
// with 77, which CTest reports as skipped.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    std::printf("skipped: no GPU (%s)\n", cudaGetErrorName(status));
    return 77;
  }
  return RUN_ALL_TESTS();
}
