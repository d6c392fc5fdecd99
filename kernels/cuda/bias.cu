// The gradient of a bias: the sum over the rows of the output's gradient.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"

namespace gpt2train::cuda {
namespace {

template <class T>
struct Read {
  const T* d_out;
  std::int64_t width;

  template <int kCount>
  __device__ void operator()(std::int64_t row, std::int64_t column, float (&x)[1][kCount]) const {
    load(x[0], d_out + row * width + column);
  }
};

}  // namespace

void bias_backward(const BiasBackward& a, Stream stream) {
  const std::int64_t rows = a.d_out.rows(), width = a.d_out.width();
  float* const partials = static_cast<float*>(a.workspace.data);
  dispatch_any_float(a.d_out.dtype, "bias_backward", [&]<class T>() {
    column_sums<1>(partials, rows, width, width % 8 == 0, Read<T>{a.d_out.as<T>(), width}, stream);
  });
  add_partials(a.d_bias.as<float>(), partials, RowBlocks(rows).count, width, width, a.accumulate,
               stream);
}

}  // namespace gpt2train::cuda
