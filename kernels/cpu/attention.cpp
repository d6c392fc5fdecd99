// Causal attention by tiles of queries and keys (Dao et al. 2022), in fp32 whatever the storage. A
// thread widens tiles into its scratch, so the tile products read packed rows.
#include "kernels/attention.h"

#include <omp.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile_product.h"

namespace gpt2train::cpu {
namespace {

using simd::Floats;

constexpr std::int64_t kTile = 64;  // queries and keys of a tile; a multiple of kTileColumns

struct Sizes {
  std::int64_t batch, time, width, heads, head_size;
  std::int64_t padded;  // head_size in scratch rows
  float scale;          // 1 / sqrt(head_size)

  std::int64_t tiles() const { return (time + kTile - 1) / kTile; }
  std::int64_t rows(std::int64_t tile) const { return std::min(kTile, time - tile * kTile); }
};

Sizes sizes_of(const TensorView& qkv, int heads) {
  const std::int64_t width = qkv.shape[2] / 3, head_size = width / heads;
  return {.batch = qkv.shape[0],
          .time = qkv.shape[1],
          .width = width,
          .heads = heads,
          .head_size = head_size,
          .padded = padded_columns(head_size),
          .scale = 1.0f / std::sqrt(static_cast<float>(head_size))};
}

// Hands out pieces of a thread's scratch, each aligned to 64 bytes.
class Scratch {
 public:
  explicit Scratch(float* begin) : at_(begin) {}
  float* take(std::int64_t count) {
    float* piece = at_;
    at_ += rounded(count);
    return piece;
  }
  static std::int64_t rounded(std::int64_t count) { return (count + 15) / 16 * 16; }

 private:
  float* at_;
};

// to[row, 0..padded) = scale * from[row * stride, 0..size), zeros past `size`.
template <class T>
void widen_rows(float* to, std::int64_t padded, const T* from, std::int64_t stride,
                std::int64_t rows, std::int64_t size, float scale) {
  for (std::int64_t row = 0; row < rows; ++row) {
    float* const out = to + row * padded;
    std::fill(out + size, out + padded, 0.0f);
    simd::for_each(size, [&](std::int64_t i, auto lanes) {
      simd::store(out + i, scale * simd::load(from + row * stride + i, lanes), lanes);
    });
  }
}

template <class T>
void narrow_rows(T* to, std::int64_t stride, const float* from, std::int64_t padded,
                 std::int64_t rows, std::int64_t size, float scale) {
  for (std::int64_t row = 0; row < rows; ++row) {
    simd::for_each(size, [&](std::int64_t i, auto lanes) {
      simd::store(to + row * stride + i, scale * simd::load(from + row * padded + i, lanes), lanes);
    });
  }
}

// to (size, kTile) = from (kTile, padded) transposed.
void transpose(float* to, const float* from, std::int64_t padded, std::int64_t size) {
  for (std::int64_t row = 0; row < kTile; row += simd::kWidth) {
    for (std::int64_t i = 0; i < size; ++i) {
      Floats x;
      for (int lane = 0; lane < simd::kWidth; ++lane) x[lane] = from[(row + lane) * padded + i];
      simd::store(to + i * kTile + row, x);
    }
  }
}

// ---- tiles of scores ----------------------------------------------------------------------------

// A tile of scores holds one key a row and one query a column: a vector is kWidth queries, so the
// softmax needs no sums across lanes, and its statistics are vectors as well.

// The tile of keys that holds the queries themselves: a query sees the keys up to its own.
struct Pair {
  std::int64_t rows;  // queries
  std::int64_t keys;
  bool diagonal;

  // Keys that some query of the vector at `query` sees.
  std::int64_t seen(std::int64_t query) const {
    return diagonal ? std::min(keys, query + simd::kWidth) : keys;
  }
  Part part(Part on_diagonal) const { return diagonal ? on_diagonal : Part::kWhole; }
};

Pair pair_of(const Sizes& s, std::int64_t query_tile, std::int64_t key_tile) {
  return {.rows = s.rows(query_tile), .keys = s.rows(key_tile), .diagonal = query_tile == key_tile};
}

// Scores of keys after the query become -inf, for the queries of one vector.
void mask_future(float* scores, const Pair& pair, std::int64_t query) {
  simd::Ints queries;
  for (int lane = 0; lane < simd::kWidth; ++lane) queries[lane] = static_cast<int>(query) + lane;
  for (std::int64_t key = query + 1; key < pair.seen(query); ++key) {
    float* const at = scores + key * kTile + query;
    simd::store(at,
                queries < static_cast<int>(key) ? simd::splat(-simd::kInfinity) : simd::load(at));
  }
}

// Zeros for the keys that no query of the vector sees: the products read some of them.
void clear_unseen(float* values, const Pair& pair, std::int64_t query) {
  for (std::int64_t key = pair.seen(query); key < pair.keys; ++key) {
    simd::store(values + key * kTile + query, Floats{});
  }
}

// factors (key, query): the dropout of a tile of probabilities.
void dropout_tile(float* factors, const Dropout& dropout, const Sizes& s, std::int64_t b,
                  std::int64_t h, std::int64_t first_query, std::int64_t first_key) {
  float lines[simd::kWidth * kTile];
  const auto sample = dropout.row_0() + static_cast<std::uint64_t>(b);
  const std::int64_t end = std::min(first_query + kTile, s.time);
  for (std::int64_t query = first_query; query < end; query += simd::kWidth) {
    for (int lane = 0; lane < simd::kWidth; ++lane) {
      float* const line = lines + lane * kTile;
      const std::int64_t row = std::min(query + lane, s.time - 1);
      const std::int64_t count = std::min(kTile, row + 1 - first_key);
      dropout_mask(line, count, dropout, sample, (h * s.time + row) * s.time + first_key);
      std::fill(line + count, line + kTile, 0.0f);
    }
    for (std::int64_t key = 0; key < kTile; ++key) {
      Floats x;
      for (int lane = 0; lane < simd::kWidth; ++lane) x[lane] = lines[lane * kTile + key];
      simd::store(factors + key * kTile + query - first_query, x);
    }
  }
}

// ---- forward ------------------------------------------------------------------------------------

std::int64_t forward_scratch(const Sizes& s) {
  return 3 * Scratch::rounded(kTile * s.padded) + Scratch::rounded(s.head_size * kTile) +
         2 * Scratch::rounded(kTile * kTile) + 3 * Scratch::rounded(kTile);
}

// Running statistics of the softmax, one value a query.
struct Statistics {
  float* largest;     // score so far
  float* sum;         // of exp(score - largest)
  float* correction;  // brings what was summed before this tile to the new `largest`
};

// Scores become exp(score - largest), times the dropout factors if there are any.
void softmax_tile(float* scores, const Statistics& statistics, const Pair& pair,
                  const float* factors) {
  for (std::int64_t query = 0; query < pair.rows; query += simd::kWidth) {
    if (pair.diagonal) mask_future(scores, pair, query);
    const std::int64_t seen = pair.seen(query);
    const Floats before = simd::load(statistics.largest + query);
    Floats largest = before;
    for (std::int64_t key = 0; key < seen; ++key) {
      largest = simd::max(simd::load(scores + key * kTile + query), largest);
    }
    const Floats correction = simd::exp(before - largest);
    Floats sum = simd::load(statistics.sum + query) * correction;
    for (std::int64_t key = 0; key < seen; ++key) {
      const std::int64_t at = key * kTile + query;
      const Floats p = simd::exp(simd::load(scores + at) - largest);
      simd::store(scores + at, factors == nullptr ? p : p * simd::load(factors + at));
      sum += p;
    }
    clear_unseen(scores, pair, query);
    simd::store(statistics.largest + query, largest);
    simd::store(statistics.sum + query, sum);
    simd::store(statistics.correction + query, correction);
  }
}

void scale_rows(float* values, std::int64_t padded, std::int64_t rows, const float* factors) {
  for (std::int64_t row = 0; row < rows; ++row) {
    if (factors[row] == 1.0f) continue;  // the rule, once the largest score was met
    for (std::int64_t i = row * padded; i < (row + 1) * padded; i += simd::kWidth) {
      simd::store(values + i, simd::load(values + i) * factors[row]);
    }
  }
}

template <class T>
void forward_tile(const AttentionForward& args, const Sizes& s, std::int64_t b, std::int64_t h,
                  std::int64_t query_tile, float* scratch_begin) {
  Scratch scratch(scratch_begin);
  float* const k = scratch.take(kTile * s.padded);
  float* const v = scratch.take(kTile * s.padded);
  float* const out = scratch.take(kTile * s.padded);
  float* const q_transposed = scratch.take(s.head_size * kTile);
  float* const scores = scratch.take(kTile * kTile);
  float* const factors = scratch.take(kTile * kTile);
  const Statistics statistics{scratch.take(kTile), scratch.take(kTile), scratch.take(kTile)};

  const std::int64_t stride = 3 * s.width, first = query_tile * kTile, rows = s.rows(query_tile);
  const T* const head = args.qkv.as<T>() + b * s.time * stride + h * s.head_size;
  widen_rows(out, s.padded, head + first * stride, stride, rows, s.head_size, s.scale);
  transpose(q_transposed, out, s.padded, s.head_size);
  std::fill_n(statistics.largest, kTile, -simd::kInfinity);
  std::fill_n(statistics.sum, kTile, 0.0f);

  for (std::int64_t key_tile = 0; key_tile <= query_tile; ++key_tile) {
    const Pair pair = pair_of(s, query_tile, key_tile);
    const T* const row = head + key_tile * kTile * stride;
    widen_rows(k, s.padded, row + s.width, stride, pair.keys, s.head_size, 1.0f);
    widen_rows(v, s.padded, row + 2 * s.width, stride, pair.keys, s.head_size, 1.0f);
    tile_product(scores, kTile, RowMajor{k, s.padded}, q_transposed, kTile, pair.keys,
                 padded_columns(rows), s.head_size, pair.part(Part::kUpperOut), false);
    if (args.dropout.active())
      dropout_tile(factors, args.dropout, s, b, h, first, key_tile * kTile);
    softmax_tile(scores, statistics, pair, args.dropout.active() ? factors : nullptr);
    if (key_tile > 0) scale_rows(out, s.padded, rows, statistics.correction);
    tile_product(out, s.padded, ColumnMajor{scores, kTile}, v, s.padded, rows, s.padded, pair.keys,
                 pair.part(Part::kLowerA), key_tile > 0);
  }

  T* const to = args.out.as<T>() + (b * s.time + first) * s.width + h * s.head_size;
  float* const lse = args.lse.as<float>() + (b * s.heads + h) * s.time + first;
  for (std::int64_t i = 0; i < rows; ++i) {
    narrow_rows(to + i * s.width, s.width, out + i * s.padded, s.padded, 1, s.head_size,
                1.0f / statistics.sum[i]);
    lse[i] = statistics.largest[i] + std::log(statistics.sum[i]);
  }
}

// ---- backward -----------------------------------------------------------------------------------

std::int64_t backward_scratch(const Sizes& s) {
  return 2 * Scratch::rounded(s.tiles() * kTile * s.padded) +
         5 * Scratch::rounded(kTile * s.padded) + 2 * Scratch::rounded(s.head_size * kTile) +
         3 * Scratch::rounded(kTile * kTile) + 2 * Scratch::rounded(kTile);
}

// dots[row] = sum over the head of d_out * out: what the softmax's gradient subtracts.
template <class T>
void row_dots(float* dots, const T* d_out, const T* out, std::int64_t stride, std::int64_t rows,
              std::int64_t size) {
  for (std::int64_t row = 0; row < rows; ++row) {
    Floats total = {};
    simd::for_each(size, [&](std::int64_t i, auto lanes) {
      total +=
          simd::load(d_out + row * stride + i, lanes) * simd::load(out + row * stride + i, lanes);
    });
    dots[row] = simd::sum(total);
  }
}

// In place: scores become the probabilities that the forward pass multiplied into v, and
// d_probabilities become d_scores.
void softmax_backward_tile(float* scores, float* d_scores, const float* lse, const float* dots,
                           const Pair& pair, const float* factors) {
  for (std::int64_t query = 0; query < pair.rows; query += simd::kWidth) {
    if (pair.diagonal) mask_future(scores, pair, query);
    const Floats lses = simd::load(lse + query), dot = simd::load(dots + query);
    for (std::int64_t key = 0; key < pair.seen(query); ++key) {
      const std::int64_t at = key * kTile + query;
      const Floats p = simd::exp(simd::load(scores + at) - lses);
      const Floats factor = factors == nullptr ? simd::splat(1.0f) : simd::load(factors + at);
      simd::store(scores + at, p * factor);
      simd::store(d_scores + at, p * (simd::load(d_scores + at) * factor - dot));
    }
    clear_unseen(scores, pair, query);
    clear_unseen(d_scores, pair, query);
  }
}

// One head of one sample, by one thread: no two threads add to the same gradient.
template <class T>
void backward_head(const AttentionBackward& args, const Sizes& s, std::int64_t b, std::int64_t h,
                   float* scratch_begin) {
  Scratch scratch(scratch_begin);
  float* const d_k = scratch.take(s.tiles() * kTile * s.padded);
  float* const d_v = scratch.take(s.tiles() * kTile * s.padded);
  float* const q = scratch.take(kTile * s.padded);
  float* const d_out = scratch.take(kTile * s.padded);
  float* const d_q = scratch.take(kTile * s.padded);
  float* const k = scratch.take(kTile * s.padded);
  float* const v = scratch.take(kTile * s.padded);
  float* const q_transposed = scratch.take(s.head_size * kTile);
  float* const d_out_transposed = scratch.take(s.head_size * kTile);
  float* const scores = scratch.take(kTile * kTile);
  float* const d_scores = scratch.take(kTile * kTile);
  float* const factors = scratch.take(kTile * kTile);
  float* const lse = scratch.take(kTile);
  float* const dots = scratch.take(kTile);

  const std::int64_t stride = 3 * s.width;
  const T* const head = args.qkv.as<T>() + b * s.time * stride + h * s.head_size;
  T* const d_head = args.d_qkv.as<T>() + b * s.time * stride + h * s.head_size;

  for (std::int64_t query_tile = 0; query_tile < s.tiles(); ++query_tile) {
    const std::int64_t rows = s.rows(query_tile), first = query_tile * kTile;
    const std::int64_t out_at = (b * s.time + first) * s.width + h * s.head_size;
    const T* const d_out_rows = args.d_out.as<T>() + out_at;
    widen_rows(q, s.padded, head + first * stride, stride, rows, s.head_size, s.scale);
    widen_rows(d_out, s.padded, d_out_rows, s.width, rows, s.head_size, 1.0f);
    transpose(q_transposed, q, s.padded, s.head_size);
    transpose(d_out_transposed, d_out, s.padded, s.head_size);
    row_dots(dots, d_out_rows, args.out.as<T>() + out_at, s.width, rows, s.head_size);
    std::copy_n(args.lse.as<float>() + (b * s.heads + h) * s.time + first, rows, lse);

    for (std::int64_t key_tile = 0; key_tile <= query_tile; ++key_tile) {
      const Pair pair = pair_of(s, query_tile, key_tile);
      const std::int64_t keys = pair.keys, first_key = key_tile * kTile;
      const T* const row = head + first_key * stride;
      widen_rows(k, s.padded, row + s.width, stride, keys, s.head_size, 1.0f);
      widen_rows(v, s.padded, row + 2 * s.width, stride, keys, s.head_size, 1.0f);
      tile_product(scores, kTile, RowMajor{k, s.padded}, q_transposed, kTile, keys,
                   padded_columns(rows), s.head_size, pair.part(Part::kUpperOut), false);
      tile_product(d_scores, kTile, RowMajor{v, s.padded}, d_out_transposed, kTile, keys,
                   padded_columns(rows), s.head_size, pair.part(Part::kUpperOut), false);
      if (args.dropout.active()) dropout_tile(factors, args.dropout, s, b, h, first, first_key);
      softmax_backward_tile(scores, d_scores, lse, dots, pair,
                            args.dropout.active() ? factors : nullptr);
      // The diagonal is the first to touch its keys.
      tile_product(d_v + first_key * s.padded, s.padded, RowMajor{scores, kTile}, d_out, s.padded,
                   keys, s.padded, rows, pair.part(Part::kUpperA), !pair.diagonal);
      tile_product(d_k + first_key * s.padded, s.padded, RowMajor{d_scores, kTile}, q, s.padded,
                   keys, s.padded, rows, pair.part(Part::kUpperA), !pair.diagonal);
      tile_product(d_q, s.padded, ColumnMajor{d_scores, kTile}, k, s.padded, rows, s.padded, keys,
                   pair.part(Part::kLowerA), key_tile > 0);
    }
    narrow_rows(d_head + first * stride, stride, d_q, s.padded, rows, s.head_size, s.scale);
  }
  narrow_rows(d_head + s.width, stride, d_k, s.padded, s.time, s.head_size, 1.0f);
  narrow_rows(d_head + 2 * s.width, stride, d_v, s.padded, s.time, s.head_size, 1.0f);
}

std::size_t scratch_bytes(std::int64_t floats_a_thread) {
  return static_cast<std::size_t>(omp_get_max_threads()) *
         static_cast<std::size_t>(floats_a_thread) * sizeof(float);
}

float* thread_scratch(const Workspace& workspace, std::int64_t floats_a_thread) {
  return static_cast<float*>(workspace.data) + omp_get_thread_num() * floats_a_thread;
}

}  // namespace

// ---- entry points -------------------------------------------------------------------------------

std::size_t attention_forward_workspace(const AttentionForward& args) {
  return scratch_bytes(forward_scratch(sizes_of(args.qkv, args.heads)));
}

std::size_t attention_backward_workspace(const AttentionBackward& args) {
  return scratch_bytes(backward_scratch(sizes_of(args.qkv, args.heads)));
}

void attention_forward(const AttentionForward& args, Stream) {
  const Sizes s = sizes_of(args.qkv, args.heads);
  const std::int64_t floats = forward_scratch(s), tiles = s.tiles();
  dispatch_float(args.qkv.dtype, "attention_forward", [&]<class T>() {
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t item = 0; item < s.batch * s.heads * tiles; ++item) {
      // The longest rows of tiles first, so that the threads end together.
      const std::int64_t tile = tiles - 1 - item / (s.batch * s.heads);
      const std::int64_t head = item % (s.batch * s.heads);
      forward_tile<T>(args, s, head / s.heads, head % s.heads, tile,
                      thread_scratch(args.workspace, floats));
    }
  });
}

void attention_backward(const AttentionBackward& args, Stream) {
  const Sizes s = sizes_of(args.qkv, args.heads);
  const std::int64_t floats = backward_scratch(s);
  dispatch_float(args.qkv.dtype, "attention_backward", [&]<class T>() {
#pragma omp parallel for schedule(dynamic)
    for (std::int64_t head = 0; head < s.batch * s.heads; ++head) {
      backward_head<T>(args, s, head / s.heads, head % s.heads,
                       thread_scratch(args.workspace, floats));
    }
  });
}

}  // namespace gpt2train::cpu
