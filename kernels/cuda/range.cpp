// Ranges of NVTX, for the timelines of Nsight Systems. Next to nothing where nobody listens.
#include <nvtx3/nvToolsExt.h>

#include "kernels/cuda/cuda_kernels.h"

namespace gpt2train::cuda {

void begin_range(const char* name) {
  nvtxRangePushA(name);
}

void end_range() {
  nvtxRangePop();
}

}  // namespace gpt2train::cuda
