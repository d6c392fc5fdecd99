#include "kernels/cpu/matmul_few_rows.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

constexpr std::int64_t kFewRows = 16;
constexpr std::int64_t kPieceColumns = 32;  // of a thread's piece: rows of b that stay in its cache

// Rows of a, rows of b and a block of out, where they begin.
template <class T, class Out>
struct Block {
  Out* out;
  const T* a;
  const T* b;
  const T* bias;  // or null
  std::int64_t out_stride, depth;

  Block at(std::int64_t row, std::int64_t column) const {
    return {out + row * out_stride + column,           a + row * depth, b + column * depth,
            bias == nullptr ? nullptr : bias + column, out_stride,      depth};
  }
};

// A sum has one order, whatever the shape of its block.
template <int kBlockRows, int kBlockColumns, class T, class Out>
void multiply_block(const Block<T, Out>& block) {
  simd::Floats sums[kBlockRows][kBlockColumns] = {};
  simd::for_each(block.depth, [&](std::int64_t i, auto lanes) {
    simd::Floats x[kBlockRows];
    for (int r = 0; r < kBlockRows; ++r) x[r] = simd::load(block.a + r * block.depth + i, lanes);
    for (int c = 0; c < kBlockColumns; ++c) {
      const simd::Floats y = simd::load(block.b + c * block.depth + i, lanes);
      for (int r = 0; r < kBlockRows; ++r) {
        sums[r][c] = simd::multiply_add(x[r], y, sums[r][c]);
      }
    }
  });
  for (int r = 0; r < kBlockRows; ++r) {
    for (int c = 0; c < kBlockColumns; ++c) {
      const float bias = block.bias == nullptr ? 0.0f : to_float(block.bias[c]);
      block.out[r * block.out_stride + c] = from_float<Out>(simd::sum(sums[r][c]) + bias);
    }
  }
}

template <int kBlockRows, class T, class Out>
void multiply_rows(const Block<T, Out>& block, std::int64_t columns) {
  std::int64_t column = 0;
  for (; column + 4 <= columns; column += 4) {
    multiply_block<kBlockRows, 4>(block.at(0, column));
  }
  for (; column < columns; ++column) multiply_block<kBlockRows, 1>(block.at(0, column));
}

template <class T, class Out>
void multiply(const Matmul& args) {
  const std::int64_t rows = args.out.rows(), columns = args.out.width();
  const Block<T, Out> all{.out = args.out.as<Out>(),
                          .a = args.a.as<T>(),
                          .b = args.b.as<T>(),
                          .bias = args.bias.as_or_null<T>(),
                          .out_stride = columns,
                          .depth = args.a.width()};
#pragma omp parallel for schedule(static) if (columns * all.depth > kParallelWork)
  for (std::int64_t first = 0; first < columns; first += kPieceColumns) {
    const std::int64_t count = std::min(kPieceColumns, columns - first);
    std::int64_t row = 0;
    for (; row + 2 <= rows; row += 2) multiply_rows<2>(all.at(row, first), count);
    if (row < rows) multiply_rows<1>(all.at(row, first), count);
  }
}

}  // namespace

bool has_few_rows(const Matmul& args) {
  return args.out.rows() <= kFewRows && args.transpose_b && !args.transpose_a && !args.accumulate;
}

void matmul_few_rows(const Matmul& args) {
  dispatch_float(args.a.dtype, "matmul", [&]<class T>() {
    dispatch_float(args.out.dtype, "matmul", [&]<class Out>() { multiply<T, Out>(args); });
  });
}

}  // namespace gpt2train::cpu
