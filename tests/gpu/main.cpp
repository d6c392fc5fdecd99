// The tests of the CUDA kernels and of the device vocabulary, on a GPU. Where none is, it exits
// with 77, which CTest reports as skipped; GPT2TRAIN_REQUIRE_GPU=1 makes that a failure.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0) {
    const char* wanted = std::getenv("GPT2TRAIN_REQUIRE_GPU");
    const bool required = wanted != nullptr && std::string_view(wanted) == "1";
    std::printf("%s: no GPU (%s)\n", required ? "failed" : "skipped", cudaGetErrorName(status));
    return required ? 1 : 77;
  }
  return RUN_ALL_TESTS();
}
