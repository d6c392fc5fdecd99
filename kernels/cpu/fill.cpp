#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {

void fill(const Fill& args, Stream) {
  dispatch_float(args.out.dtype, "fill", [&]<class T>() {
    T* out = args.out.as<T>();
    const simd::Floats value = simd::splat(args.value);
    for_each_piece(args.out.count(), [&](std::int64_t begin, std::int64_t count) {
      simd::for_each(
          count, [&](std::int64_t i, auto lanes) { simd::store(out + begin + i, value, lanes); });
    });
  });
}

void cast(const Cast& args, Stream) {
  dispatch_float(args.out.dtype, "cast", [&]<class Out>() {
    dispatch_float(args.in.dtype, "cast", [&]<class In>() {
      Out* out = args.out.as<Out>();
      const In* in = args.in.as<In>();
      for_each_piece(args.out.count(), [&](std::int64_t begin, std::int64_t count) {
        simd::for_each(count, [&](std::int64_t i, auto lanes) {
          simd::store(out + begin + i, simd::load(in + begin + i, lanes), lanes);
        });
      });
    });
  });
}

}  // namespace gpt2train::cpu
