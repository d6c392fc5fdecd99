// The backend that the kernel tests are compiled against: one set of tests proves each of them.
#pragma once

#ifdef GPT2TRAIN_TEST_CUDA
#include "kernels/cuda/cuda_kernels.h"
namespace gpt2train::test {
namespace backend = cuda;
}
#else
#include "kernels/cpu/cpu_kernels.h"
namespace gpt2train::test {
namespace backend = cpu;
}
#endif
