#include "kernels/cpu/dropout.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/philox.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

using simd::Floats;
using simd::kWidth;

constexpr int kBlock = 4 * kWidth;  // elements of kWidth counters

}  // namespace

void dropout_mask(float* mask, std::int64_t count, const Dropout& dropout, std::uint64_t sample,
                  std::int64_t first) {
  const float keep_factor = 1.0f / (1.0f - dropout.rate);
  const std::int64_t end = first + count;
  for (std::int64_t group = first / 4; group * 4 < end; group += kWidth) {
    const simd::PhiloxVectors random = simd::philox(
        random_counter(dropout.use, sample, dropout.layer, static_cast<std::uint32_t>(group)),
        dropout.seed);
    float block[kBlock];  // element 4 i + j is word j of counter i
    for (int j = 0; j < 4; ++j) {
      const Floats unit =
          __builtin_convertvector((simd::Ints)(random.word[j] >> 8), Floats) * 0x1p-24f;
      const Floats factor = unit < dropout.rate ? Floats{} : simd::splat(keep_factor);
      for (int i = 0; i < kWidth; ++i) block[4 * i + j] = factor[i];
    }
    const std::int64_t from = std::max(first, group * 4), to = std::min(end, group * 4 + kBlock);
    std::memcpy(mask + (from - first), block + (from - group * 4),
                static_cast<std::size_t>(to - from) * sizeof(float));
  }
}

RowMask::RowMask(const Dropout& dropout, std::int64_t time, std::int64_t width)
    : dropout_(dropout), time_(time), width_(width) {
  std::fill_n(mask_, kColumns, 1.0f);
}

const float* RowMask::operator()(std::int64_t row, std::int64_t column, std::int64_t count) {
  if (dropout_.active()) {
    const std::uint64_t sample = dropout_.row_0() + static_cast<std::uint64_t>(row / time_);
    dropout_mask(mask_, count, dropout_, sample, row % time_ * width_ + column);
  }
  return mask_;
}

}  // namespace gpt2train::cpu
