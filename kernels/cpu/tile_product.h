// Products of small fp32 matrices that sit in cache: the tiles of attention. Register-blocked: six
// rows by two vectors of the output stay in registers over the whole sum.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {

// Columns of b and out are padded to a multiple of this.
inline constexpr std::int64_t kTileColumns = 2 * simd::kWidth;

constexpr std::int64_t padded_columns(std::int64_t columns) {
  return (columns + kTileColumns - 1) / kTileColumns * kTileColumns;
}

// The left factor. Its elements are broadcast one by one, so either order of storage will do.
struct RowMajor {
  const float* data;
  std::int64_t stride;
  float at(std::int64_t i, std::int64_t k) const { return data[i * stride + k]; }
  RowMajor from(std::int64_t i, std::int64_t k) const { return {data + i * stride + k, stride}; }
};
struct ColumnMajor {
  const float* data;
  std::int64_t stride;
  float at(std::int64_t i, std::int64_t k) const { return data[i + k * stride]; }
  ColumnMajor from(std::int64_t i, std::int64_t k) const { return {data + i + k * stride, stride}; }
};

// What counts in a product of square tiles on the diagonal: about half of the work is left out.
enum class Part {
  kWhole,
  kUpperOut,  // out (i, j) with j >= i is written, the rest may be or not
  kUpperA,    // a (i, k) is 0 for k < i
  kLowerA,    // a (i, k) is 0 for k > i
};

template <int kRows, class A>
GPT2_SIMD void tile_product_rows(float* out, std::int64_t out_stride, const A& a, const float* b,
                                 std::int64_t b_stride, std::int64_t depth, bool accumulate) {
  simd::Floats sum[kRows][2];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < 2; ++v) {
      sum[i][v] = accumulate ? simd::load(out + i * out_stride + v * simd::kWidth) : simd::Floats{};
    }
  }
  std::int64_t k = 0;
  do {  // depth > 0, and the compiler makes use of it
    const simd::Floats b0 = simd::load(b + k * b_stride);
    const simd::Floats b1 = simd::load(b + k * b_stride + simd::kWidth);
    for (int i = 0; i < kRows; ++i) {
      const float x = a.at(i, k);
      sum[i][0] += x * b0;
      sum[i][1] += x * b1;
    }
  } while (++k < depth);
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < 2; ++v) simd::store(out + i * out_stride + v * simd::kWidth, sum[i][v]);
  }
}

// out (rows, columns) = or += a (rows, depth) * b (depth, columns); `columns` is a multiple of
// kTileColumns, strides count floats.
template <class A>
void tile_product(float* out, std::int64_t out_stride, const A& a, const float* b,
                  std::int64_t b_stride, std::int64_t rows, std::int64_t columns,
                  std::int64_t depth, Part part, bool accumulate) {
  for (std::int64_t column = 0; column < columns; column += kTileColumns) {
    const std::int64_t last_row =
        part == Part::kUpperOut ? std::min(rows, column + kTileColumns) : rows;
    std::int64_t row = 0;
    const auto block = [&]<int kRows>() {
      const std::int64_t begin = part == Part::kUpperA ? row : 0;
      const std::int64_t end = part == Part::kLowerA ? std::min(depth, row + kRows) : depth;
      tile_product_rows<kRows>(out + row * out_stride + column, out_stride, a.from(row, begin),
                               b + begin * b_stride + column, b_stride, end - begin, accumulate);
      row += kRows;
    };
    while (row + 6 <= last_row) block.template operator()<6>();
    if (last_row - row >= 4) block.template operator()<4>();
    if (last_row - row >= 2) block.template operator()<2>();
    if (last_row - row >= 1) block.template operator()<1>();
  }
}

}  // namespace gpt2train::cpu
