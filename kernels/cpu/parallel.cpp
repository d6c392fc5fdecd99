#include "kernels/cpu/parallel.h"

#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {

void add_partials(float* out, const float* partials, std::int64_t blocks, std::int64_t width,
                  bool accumulate) {
  constexpr std::int64_t kColumns = 256;
#pragma omp parallel for schedule(static) if (blocks * width > kParallelWork)
  for (std::int64_t column = 0; column < width; column += kColumns) {
    const std::int64_t count = std::min(kColumns, width - column);
    simd::for_each(count, [&](std::int64_t i, auto lanes) {
      const std::int64_t j = column + i;
      simd::Floats total = accumulate ? simd::load(out + j, lanes) : simd::Floats{};
      for (std::int64_t block = 0; block < blocks; ++block) {
        total += simd::load(partials + block * width + j, lanes);
      }
      simd::store(out + j, total, lanes);
    });
  }
}

}  // namespace gpt2train::cpu
