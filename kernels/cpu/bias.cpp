#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

template <class T>
void bias_backward_rows(const BiasBackward& args) {
  const std::int64_t width = args.d_out.width();
  const RowBlocks blocks(args.d_out.rows());
  const T* d_out = args.d_out.as<T>();
  float* partials = static_cast<float*>(args.workspace.data);

#pragma omp parallel for schedule(static) if (blocks.rows * width > kParallelWork)
  for (std::int64_t block = 0; block < blocks.count; ++block) {
    float* partial = partials + block * width;
    std::fill_n(partial, width, 0.0f);
    for (std::int64_t row = blocks.begin(block); row < blocks.end(block); ++row) {
      simd::for_each(width, [&](std::int64_t i, auto lanes) {
        const simd::Floats total =
            simd::load(partial + i, lanes) + simd::load(d_out + row * width + i, lanes);
        simd::store(partial + i, total, lanes);
      });
    }
  }
  add_partials(args.d_bias.as<float>(), partials, blocks.count, width, args.accumulate);
}

}  // namespace

std::size_t bias_backward_workspace(const BiasBackward& args) {
  const std::int64_t blocks = RowBlocks(args.d_out.rows()).count;
  return static_cast<std::size_t>(blocks * args.d_out.width()) * sizeof(float);
}

void bias_backward(const BiasBackward& args, Stream) {
  dispatch_float(args.d_out.dtype, "bias_backward",
                 [&]<class T>() { bias_backward_rows<T>(args); });
}

}  // namespace gpt2train::cpu
