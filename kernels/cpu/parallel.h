// How the CPU kernels split work among threads. No result depends on the number of threads: a sum
// over rows is taken over blocks whose bounds come from the shape alone.
#pragma once

#include <algorithm>
#include <cstdint>

namespace gpt2train::cpu {

// Elements below which starting the threads costs more than it saves.
inline constexpr std::int64_t kParallelWork = 32 * 1024;

// Calls body(begin, count) for consecutive pieces of a flat array, in parallel.
template <class Body>
void for_each_piece(std::int64_t count, const Body& body) {
  constexpr std::int64_t kPiece = 16 * 1024;
#pragma omp parallel for schedule(static) if (count > kParallelWork)
  for (std::int64_t begin = 0; begin < count; begin += kPiece) {
    body(begin, std::min(kPiece, count - begin));
  }
}

// Blocks of consecutive rows, each summed by one thread into its own (width) partial sum.
struct RowBlocks {
  explicit RowBlocks(std::int64_t row_count)
      : rows(row_count), count(std::clamp<std::int64_t>(row_count / 16, 1, 64)) {}
  std::int64_t begin(std::int64_t block) const { return block * rows / count; }
  std::int64_t end(std::int64_t block) const { return (block + 1) * rows / count; }

  std::int64_t rows;
  std::int64_t count;
};

// out[j] (+)= sum over blocks of partials[block * width + j], in their order.
void add_partials(float* out, const float* partials, std::int64_t blocks, std::int64_t width,
                  bool accumulate);

}  // namespace gpt2train::cpu
