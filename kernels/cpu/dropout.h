// Dropout as a mask of factors, generated a stretch at a time into a small buffer.
#pragma once

#include <cstdint>

#include "gpt2train/core/rng.h"

namespace gpt2train::cpu {

// mask[i] = 0 where element first + i of `sample` (its run-wide index) is dropped, 1 / (1 - rate)
// where it is kept. Cheapest when first and count are multiples of 64.
void dropout_mask(float* mask, std::int64_t count, const Dropout& dropout, std::uint64_t sample,
                  std::int64_t first);

// The masks of a (rows, width) tensor whose samples are `time` consecutive rows; all ones where
// dropout is off. Each thread has its own.
class RowMask {
 public:
  static constexpr std::int64_t kColumns = 512;

  RowMask(const Dropout& dropout, std::int64_t time, std::int64_t width);

  // Factors of columns [column, column + count) of `row`, count <= kColumns, until the next call.
  // Whole vectors may be read past the end of `count`.
  const float* operator()(std::int64_t row, std::int64_t column, std::int64_t count);

 private:
  Dropout dropout_;
  std::int64_t time_;
  std::int64_t width_;
  float mask_[kColumns];
};

// Calls body(column, count, mask) for the stretches of columns [begin, end) of a row.
template <class Body>
void for_each_stretch(RowMask& masks, std::int64_t row, std::int64_t begin, std::int64_t end,
                      const Body& body) {
  for (std::int64_t column = begin; column < end; column += RowMask::kColumns) {
    const std::int64_t count = end - column < RowMask::kColumns ? end - column : RowMask::kColumns;
    body(column, count, masks(row, column, count));
  }
}

}  // namespace gpt2train::cpu
