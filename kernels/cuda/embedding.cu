// Token and position embedding. The gradient of the token table is a sum over equal tokens, in the
// order of the tokens: they are sorted by counting, then each run of equal ones is summed, long
// runs in pieces whose sums are added up in order. No atomics, no work on the host.
#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/elementwise.cuh"

namespace gpt2train::cuda {
namespace {

constexpr int kSortBlock = 256;
constexpr int kSumBlock = 128;
constexpr int kPieceLength = TokenSort::kPieceLength;

// ---- forward ------------------------------------------------------------------------------------

template <class T>
struct Forward {
  T* out;
  const std::int32_t* tokens;
  const T* token_table;
  const T* position_table;
  Dropout dropout;
  std::int64_t time, width;

  template <int kCount>
  __device__ void operator()(std::int64_t first) const {
    const std::int64_t row = first / width, column = first % width;
    float x[kCount], position[kCount];
    load(x, token_table + tokens[row] * width + column);
    load(position, position_table + row % time * width + column);
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] += position[i];
    if (dropout.active()) {
      float factors[kCount];
      dropout_factors(factors, dropout, first, time * width);
#pragma unroll
      for (int i = 0; i < kCount; ++i) x[i] *= factors[i];
    }
    store(out + first, x);
  }
};

// ---- backward: positions ------------------------------------------------------------------------

// The gradient as the tables see it.
template <class T>
struct Gradient {
  const T* d_out;
  Dropout dropout;
  std::int64_t time, width;

  template <int kCount>
  __device__ void add(float (&sum)[kCount], std::int64_t row, std::int64_t column) const {
    float d[kCount];
    load(d, d_out + row * width + column);
    if (dropout.active()) {
      float factors[kCount];
      dropout_factors(factors, dropout, row * width + column, time * width);
#pragma unroll
      for (int i = 0; i < kCount; ++i) d[i] *= factors[i];
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] += d[i];
  }
};

// Over the whole table; positions past T have no rows.
template <class T>
struct Positions {
  float* d_table;
  Gradient<T> gradient;
  std::int64_t rows;
  bool accumulate;

  template <int kCount>
  __device__ void operator()(std::int64_t first) const {
    const std::int64_t position = first / gradient.width, column = first % gradient.width;
    float sum[kCount] = {};
    if (accumulate) load(sum, d_table + first);
    if (position < gradient.time) {
      for (std::int64_t row = position; row < rows; row += gradient.time) {
        gradient.add(sum, row, column);
      }
    }
    store(d_table + first, sum);
  }
};

// ---- backward: tokens ---------------------------------------------------------------------------

// order[i]: the group's row that is i-th when sorted by token, then by row; rank[i]: how many equal
// tokens come before it; length[i]: how many there are. Every pair is compared.
__global__ void __launch_bounds__(kSortBlock)
    sort_kernel(std::int32_t* order, std::int32_t* rank, std::int32_t* length,
                const std::int32_t* tokens, int count) {
  GPU_SHARED(std::int32_t, tile, kSortBlock);
  const int me = static_cast<int>(blockIdx.x) * kSortBlock + static_cast<int>(threadIdx.x);
  const std::int32_t mine = me < count ? tokens[me] : 0;
  int smaller = 0, before = 0, equal = 0;
  for (int begin = 0; begin < count; begin += kSortBlock) {
    block_barrier();  // the tile before has been read
    const int at = begin + static_cast<int>(threadIdx.x);
    if (at < count) tile[threadIdx.x] = tokens[at];
    block_barrier();
    const int tile_count = count - begin < kSortBlock ? count - begin : kSortBlock;
    for (int i = 0; i < tile_count; ++i) {
      const std::int32_t other = tile[i];
      smaller += other < mine;
      equal += other == mine;
      before += other == mine && begin + i < me;
    }
  }
  if (me >= count) return;
  order[smaller + before] = me;
  rank[smaller + before] = before;
  length[smaller + before] = equal;
}

struct Runs {
  const std::int32_t* order;
  const std::int32_t* rank;
  const std::int32_t* length;
  int count;
};

// Where the sum of a piece goes that is not its whole run. Of the pieces that begin among 64
// neighbours, one at most is the first of its run, and one at most is not.
__host__ __device__ inline std::int64_t piece_slot(int start, bool first) {
  return std::int64_t{start} / kPieceLength * 2 + (first ? 1 : 0);
}

// Block i sums the piece that begins at the i-th sorted row, if one does.
template <class T, int kCount>
__global__ void __launch_bounds__(kSumBlock)
    sum_pieces_kernel(float* d_table, float* pieces, Runs runs, const std::int32_t* tokens,
                      std::int64_t first_row, Gradient<T> gradient) {
  const int start = static_cast<int>(blockIdx.x);
  const int rank = runs.rank[start], length = runs.length[start];
  if (rank % kPieceLength != 0) return;
  const int end = start + (length - rank < kPieceLength ? length - rank : kPieceLength);
  const std::int64_t width = gradient.width;
  const bool whole = length <= kPieceLength;
  float* const to = whole ? d_table + tokens[runs.order[start]] * width
                          : pieces + piece_slot(start, rank == 0) * width;
  for (std::int64_t column = std::int64_t{threadIdx.x} * kCount; column < width;
       column += kSumBlock * kCount) {
    float sum[kCount] = {};
    if (whole) load(sum, to + column);
    for (int i = start; i < end; ++i) gradient.add(sum, first_row + runs.order[i], column);
    store(to + column, sum);
  }
}

// Block i adds up the pieces of the run that begins at the i-th sorted row, if a long one does.
template <int kCount>
__global__ void __launch_bounds__(kSumBlock)
    add_pieces_kernel(float* d_table, const float* pieces, Runs runs, const std::int32_t* tokens,
                      std::int64_t width) {
  const int start = static_cast<int>(blockIdx.x);
  const int length = runs.length[start];
  if (runs.rank[start] != 0 || length <= kPieceLength) return;
  float* const to = d_table + tokens[runs.order[start]] * width;
  for (std::int64_t column = std::int64_t{threadIdx.x} * kCount; column < width;
       column += kSumBlock * kCount) {
    float sum[kCount];
    load(sum, to + column);
    for (int rank = 0; rank < length; rank += kPieceLength) {
      float piece[kCount];
      load(piece, pieces + piece_slot(start + rank, rank == 0) * width + column);
#pragma unroll
      for (int i = 0; i < kCount; ++i) sum[i] += piece[i];
    }
    store(to + column, sum);
  }
}

// ---- launchers ----------------------------------------------------------------------------------

template <class T, int kCount>
void sum_tokens(const EmbeddingBackward& a, const Gradient<T>& gradient, Stream stream) {
  const TokenSort sort(a);
  auto* const order = static_cast<std::int32_t*>(a.workspace.data);
  std::int32_t* const rank = order + sort.indices;
  std::int32_t* const length = rank + sort.indices;
  auto* const pieces = reinterpret_cast<float*>(length + sort.indices);
  float* const d_table = a.d_token_table.as<float>();
  const std::int64_t rows = a.d_out.rows();
  for (std::int64_t first = 0; first < rows; first += sort.group) {
    const int count = static_cast<int>(std::min(sort.group, rows - first));
    const std::int32_t* const tokens = a.tokens.as<std::int32_t>() + first;
    const Runs runs{order, rank, length, count};
    gpu_launch({.grid = {blocks_for(count, kSortBlock)}, .block = {kSortBlock}, .stream = stream},
               sort_kernel, order, rank, length, tokens, count);
    const Launch each{
        .grid = {static_cast<unsigned>(count)}, .block = {kSumBlock}, .stream = stream};
    gpu_launch(each, sum_pieces_kernel<T, kCount>, d_table, pieces, runs, tokens, first, gradient);
    gpu_launch(each, add_pieces_kernel<kCount>, d_table, pieces, runs, tokens, gradient.width);
  }
}

}  // namespace

void embedding_forward(const EmbeddingForward& a, Stream stream) {
  dispatch_any_float(a.out.dtype, "embedding_forward", [&]<class T>() {
    const std::int64_t width = a.out.width();
    elementwise(a.out.count(), width % kElements == 0, stream,
                Forward<T>{.out = a.out.as<T>(),
                           .tokens = a.tokens.as<std::int32_t>(),
                           .token_table = a.token_table.as<T>(),
                           .position_table = a.position_table.as<T>(),
                           .dropout = a.dropout,
                           .time = a.out.shape[1],
                           .width = width});
  });
}

void embedding_backward(const EmbeddingBackward& a, Stream stream) {
  if (a.d_out.rows() == 0) return;
  dispatch_any_float(a.d_out.dtype, "embedding_backward", [&]<class T>() {
    const std::int64_t width = a.d_out.width();
    const bool vector = width % kElements == 0;
    const Gradient<T> gradient{a.d_out.as<T>(), a.dropout, a.d_out.shape[1], width};
    elementwise(
        a.d_position_table.count(), vector, stream,
        Positions<T>{a.d_position_table.as<float>(), gradient, a.d_out.rows(), a.accumulate});
    vector ? sum_tokens<T, kElements>(a, gradient, stream) : sum_tokens<T, 1>(a, gradient, stream);
  });
}

}  // namespace gpt2train::cuda
