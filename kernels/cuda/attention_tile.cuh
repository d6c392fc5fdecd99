// Tiles of query, key and value rows in shared memory, and the fragments that mma reads of them.
#pragma once

#include "kernels/cuda/attention_problem.cuh"
#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {

inline constexpr int kTileWarps = 4;
inline constexpr int kTileBlock = kTileWarps * kWarp;
inline constexpr int kWarpRows = 16;                      // of a tile, a warp's own
inline constexpr int kTileRows = kTileWarps * kWarpRows;  // of a block

// kRows rows of a head, padded with zeros to kHead columns, a multiple of 16. The eight elements of
// padding behind each row put the eight rows that one ldmatrix reads into different banks.
template <class T, int kHead, int kRows>
class Tile {
 public:
  static constexpr int kStride = kHead + 8;
  static constexpr int kElements = kRows * kStride;
  static constexpr std::size_t kBytes = kElements * sizeof(T);

  __device__ explicit Tile(T* data) : data_(data) {}

  // Starts to copy rows [begin, begin + kRows) of `from`; zeros at and past row `end` and column
  // `head_size`. wait_copies and a barrier finish it. `aligned`: rows begin at multiples of 16
  // bytes and so does every eighth element.
  __device__ void copy(const HeadRows<const T>& from, int begin, int end, int head_size,
                       bool aligned) const {
    if (aligned) {
      for (int i = static_cast<int>(threadIdx.x); i < kRows * (kHead / 8); i += kTileBlock) {
        const int row = i / (kHead / 8), column = i % (kHead / 8) * 8;
        const bool present = begin + row < end && column < head_size;
        const T* source = present ? from.first + (begin + row) * from.stride + column : from.first;
        copy_async(data_ + row * kStride + column, source, present);
      }
    } else {
      for (int i = static_cast<int>(threadIdx.x); i < kRows * kHead; i += kTileBlock) {
        const int row = i / kHead, column = i % kHead;
        const bool present = begin + row < end && column < head_size;
        data_[row * kStride + column] =
            present ? from.first[(begin + row) * from.stride + column] : narrow<T>(0.0f);
      }
    }
  }

  // The a operand: rows [row, row + 16), columns [column, column + 16).
  __device__ __forceinline__ void a(std::uint32_t (&to)[4], int row, int column) const {
    const int lane = lane_index();
    load_matrices(to, data_ + (row + lane % 16) * kStride + column + lane / 16 * 8);
  }
  // Two b operands of a product with this tile transposed: its rows [row, row + 16) are columns of
  // b, eight each in {to[0], to[1]} and {to[2], to[3]}; its columns [column, column + 16) are k.
  __device__ __forceinline__ void b_transposed(std::uint32_t (&to)[4], int row, int column) const {
    const int lane = lane_index();
    load_matrices(to,
                  data_ + (row + lane % 8 + lane / 16 * 8) * kStride + column + lane / 8 % 2 * 8);
  }
  // Two b operands of a product with this tile: its rows [row, row + 16) are k, its columns
  // [column, column + 16) columns of b, eight each.
  __device__ __forceinline__ void b(std::uint32_t (&to)[4], int row, int column) const {
    const int lane = lane_index();
    load_matrices_transposed(to, data_ + (row + lane % 16) * kStride + column + lane / 16 * 8);
  }

 private:
  T* data_;
};

// What a warp has of a product: kWarpRows rows, kColumns columns. value(i, j) of a lane is at row
// lane / 4 + (j / 2) * 8, column i * 8 + lane % 4 * 2 + j % 2.
template <int kColumns>
struct Accumulator {
  float value[kColumns / 8][4] = {};

  __device__ static int row(int j) { return lane_index() / 4 + j / 2 * 8; }
  __device__ static int column(int i, int j) { return i * 8 + lane_index() % 4 * 2 + j % 2; }

  // As the a operand of a further product: columns [16 k, 16 k + 16).
  template <class T>
  __device__ __forceinline__ void a(std::uint32_t (&to)[4], int k) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&from)[4] = value[2 * k + i / 2];
      to[i] = pack<T>(from[i % 2 * 2], from[i % 2 * 2 + 1]);
    }
  }
};

// sum (16, kRows) += a's rows from a_row on, times `b` transposed.
template <class T, int kHead, int kARows, int kRows>
__device__ __forceinline__ void multiply_transposed(Accumulator<kRows>& sum,
                                                    const Tile<T, kHead, kARows>& a, int a_row,
                                                    const Tile<T, kHead, kRows>& b) {
#pragma unroll
  for (int k = 0; k < kHead; k += 16) {
    std::uint32_t left[4];
    a.a(left, a_row, k);
#pragma unroll
    for (int n = 0; n < kRows; n += 16) {
      std::uint32_t right[4];
      b.b_transposed(right, n, k);
      multiply_add<T>(sum.value[n / 8], left, right[0], right[1]);
      multiply_add<T>(sum.value[n / 8 + 1], left, right[2], right[3]);
    }
  }
}

// sum (16, kHead) += weights (16, kRows) times `b`.
template <class T, int kHead, int kRows>
__device__ __forceinline__ void multiply(Accumulator<kHead>& sum, const Accumulator<kRows>& weights,
                                         const Tile<T, kHead, kRows>& b) {
#pragma unroll
  for (int k = 0; k < kRows / 16; ++k) {
    std::uint32_t left[4];
    weights.template a<T>(left, k);
#pragma unroll
    for (int n = 0; n < kHead; n += 16) {
      std::uint32_t right[4];
      b.b(right, k * 16, n);
      multiply_add<T>(sum.value[n / 8], left, right[0], right[1]);
      multiply_add<T>(sum.value[n / 8 + 1], left, right[2], right[3]);
    }
  }
}

}  // namespace gpt2train::cuda
