#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

// out = in + dropout(branch), or dropout(branch) where `in` is null.
template <class T>
void add_dropped(T* out, const T* in, const T* branch, const Dropout& dropout, std::int64_t time,
                 std::int64_t rows, std::int64_t width) {
#pragma omp parallel if (rows * width > kParallelWork)
  {
    RowMask masks(dropout, time, width);
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < rows; ++row) {
      for_each_stretch(masks, row, 0, width, [&](auto column, auto count, const float* mask) {
        const std::int64_t begin = row * width + column;
        simd::for_each(count, [&](std::int64_t i, auto lanes) {
          simd::Floats x = simd::load(branch + begin + i, lanes) * simd::load(mask + i);
          if (in != nullptr) x += simd::load(in + begin + i, lanes);
          simd::store(out + begin + i, x, lanes);
        });
      });
    }
  }
}

}  // namespace

void residual_forward(const ResidualForward& args, Stream) {
  dispatch_float(args.in.dtype, "residual_forward", [&]<class T>() {
    add_dropped<T>(args.out.as<T>(), args.in.as<T>(), args.branch.as<T>(), args.dropout, args.time,
                   args.in.rows(), args.in.width());
  });
}

void dropout_backward(const DropoutBackward& args, Stream) {
  dispatch_float(args.in.dtype, "dropout_backward", [&]<class T>() {
    add_dropped<T>(args.out.as<T>(), nullptr, args.in.as<T>(), args.dropout, args.time,
                   args.in.rows(), args.in.width());
  });
}

}  // namespace gpt2train::cpu
