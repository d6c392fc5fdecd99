// Causal attention on tensor cores (Dao 2023): a block has 64 queries, or 64 keys, and walks the
// tiles of the other side, so no T x T matrix is ever stored. The backward pass is two kernels, one
// by keys and one by queries: scores are computed twice, nothing is added atomically.
#include "kernels/attention.h"

#include "kernels/cuda/attention_problem.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/cuda_kernels.h"

namespace gpt2train::cuda {
namespace {

template <class T>
using Problem = AttentionProblem<T>;

// ---- dropout ------------------------------------------------------------------------------------

// The factors on a thread's part of a tile of probabilities. They are drawn in a loop that is not
// unrolled, since Philox takes many registers, and kept as one bit each.
template <bool kDrop, int kColumns>
class TileFactors {
 public:
  // drop(row, column): the factor at a place in the tile.
  template <class Drop>
  __device__ __forceinline__ explicit TileFactors(const Drop& drop) {
    if constexpr (kDrop) {
      static_assert(kColumns <= 64);
#pragma unroll 1
      for (int n = 0; n < kColumns / 2; ++n) {
        using Places = Accumulator<kColumns>;
        const float factor = drop(Places::row(n % 4), Places::column(n / 4, n % 4));
        kept_ |= (factor > 0.0f ? 1u : 0u) << n;
      }
    }
  }
  // Of value[i][j] of the tile's accumulator; `keep` is the problem's.
  __device__ __forceinline__ float operator()(int i, int j, float keep) const {
    if constexpr (!kDrop) return 1.0f;
    return (kept_ >> (i * 4 + j) & 1) != 0 ? keep : 0.0f;
  }

 private:
  std::uint32_t kept_ = 0;
};

// ---- forward ------------------------------------------------------------------------------------

template <class T, int kHead>
struct ForwardTiles {
  static constexpr int kKeys = kHead > 64 ? 32 : 64;  // fewer registers for wide heads
  using Queries = Tile<T, kHead, kTileRows>;
  using Keys = Tile<T, kHead, kKeys>;
  static constexpr std::size_t kBytes = Queries::kBytes + 4 * Keys::kBytes;
};

template <class T, int kHead, bool kDrop>
__global__ void __launch_bounds__(kTileBlock) forward_kernel(Problem<T> p, T* out, float* lse) {
  using Tiles = ForwardTiles<T, kHead>;
  constexpr int kKeys = Tiles::kKeys;
  GPU_DYNAMIC_SHARED(T, shared);
  const typename Tiles::Queries q(shared);
  const auto buffer = [&](int which) {
    return
        typename Tiles::Keys(shared + Tiles::Queries::kElements + which * Tiles::Keys::kElements);
  };
  const Head h = p.this_head();
  // The longest rows first: they take the most time.
  const int first = (static_cast<int>(gridDim.x - 1 - blockIdx.x)) * kTileRows;
  const int end = first + kTileRows < p.time ? first + kTileRows : p.time;  // of keys as well
  const auto k_rows = p.packed(p.qkv, 1, h), v_rows = p.packed(p.qkv, 2, h);
  const auto start_copy = [&](int tile) {
    buffer(tile % 2 * 2).copy(k_rows, tile * kKeys, p.time, p.head_size, p.aligned);
    buffer(tile % 2 * 2 + 1).copy(v_rows, tile * kKeys, p.time, p.head_size, p.aligned);
  };
  q.copy(p.packed(p.qkv, 0, h), first, p.time, p.head_size, p.aligned);
  start_copy(0);
  commit_copies();

  const int warp_row = warp_index() * kWarpRows;
  const float scale = p.scale * kLog2E;
  Accumulator<kHead> o;
  float max[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
  const int tiles = (end + kKeys - 1) / kKeys;
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) start_copy(tile + 1);
    commit_copies();  // an empty group at the end, so that the count holds
    wait_copies<1>();
    block_barrier();
    const auto k = buffer(tile % 2 * 2), v = buffer(tile % 2 * 2 + 1);
    Accumulator<kKeys> s;
    multiply_transposed(s, q, warp_row, k);

    float largest[2] = {max[0], max[1]};
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = tile * kKeys + s.column(i, j), query = first + warp_row + s.row(j);
        float& score = s.value[i][j];
        score = key <= query ? score * scale : -INFINITY;
        largest[j / 2] = fmaxf(largest[j / 2], score);
      }
    }
    const TileFactors<kDrop, kKeys> factors([&](int row, int column) {
      return p.drop(h, first + warp_row + row, tile * kKeys + column);
    });
    float correction[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {  // over the four lanes that share a row
      largest[r] = fmaxf(largest[r], shuffle_xor(largest[r], 1));
      largest[r] = fmaxf(largest[r], shuffle_xor(largest[r], 2));
      correction[r] = exp2_approximate(max[r] - largest[r]);  // 0 at first: key 0 is always seen
      max[r] = largest[r];
      sum[r] *= correction[r];
    }
#pragma unroll
    for (int i = 0; i < kHead / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) o.value[i][j] *= correction[j / 2];
    }
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float& probability = s.value[i][j];
        probability = exp2_approximate(probability - max[j / 2]);
        sum[j / 2] += probability;
        probability *= factors(i, j, p.keep);
      }
    }
    multiply(o, s, v);
    block_barrier();  // all have read this buffer before the next copy into it
  }
  wait_copies<0>();

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] += shuffle_xor(sum[r], 1);
    sum[r] += shuffle_xor(sum[r], 2);
    const int query = first + warp_row + o.row(2 * r);
    if (query < end && lane_index() % 4 == 0) {
      lse[p.statistics(h) + query] = max[r] * kLn2 + logf(sum[r]);
    }
  }
  const HeadRows<T> to = p.plain(out, h);
#pragma unroll
  for (int i = 0; i < kHead / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int query = first + warp_row + o.row(j), column = o.column(i, j);
      if (query < end && column < p.head_size) {
        to.row(query)[column] = narrow<T>(o.value[i][j] / sum[j / 2]);
      }
    }
  }
}

// ---- backward: what the softmax's gradient subtracts --------------------------------------------

// dots (B, H, T): the sum over a head of d_out * out. A warp has a row of one head.
template <class T>
__global__ void __launch_bounds__(kTileBlock, 1)
    dots_kernel(Problem<T> p, float* dots, const T* d_out, const T* out) {
  const int query = static_cast<int>(blockIdx.x) * kTileWarps + warp_index();
  if (query >= p.time) return;
  const Head h = p.this_head();
  const T* const a = p.plain(d_out, h).row(query);
  const T* const b = p.plain(out, h).row(query);
  float dot = 0.0f;
  for (int column = lane_index(); column < p.head_size; column += kWarp) {
    dot += widen(a[column]) * widen(b[column]);
  }
  dot = warp_sum(dot);
  if (lane_index() == 0) dots[p.statistics(h) + query] = dot;
}

// ---- backward by keys ---------------------------------------------------------------------------

template <class T, int kHead, bool kDrop>
struct KeyTiles {
  static constexpr int kQueries = 64 / (kHead > 64 ? 2 : 1) / (kDrop ? 2 : 1);
  using Keys = Tile<T, kHead, kTileRows>;
  using Queries = Tile<T, kHead, kQueries>;
  static constexpr std::size_t kBytes = 2 * Keys::kBytes + 2 * Queries::kBytes;
};

// d_k and d_v of 64 keys, 16 a warp. Products are of transposed matrices: rows are keys.
template <class T, int kHead, bool kDrop>
__global__ void __launch_bounds__(kTileBlock, 1)
    backward_keys_kernel(Problem<T> p, T* d_qkv, const T* d_out, const float* lse,
                         const float* dots) {
  using Tiles = KeyTiles<T, kHead, kDrop>;
  constexpr int kQueries = Tiles::kQueries;
  GPU_DYNAMIC_SHARED(T, shared);
  GPU_SHARED(float, lse_tile, kQueries);
  GPU_SHARED(float, dots_tile, kQueries);
  const typename Tiles::Keys k(shared), v(shared + Tiles::Keys::kElements);
  const typename Tiles::Queries q(shared + 2 * Tiles::Keys::kElements),
      d_o(shared + 2 * Tiles::Keys::kElements + Tiles::Queries::kElements);
  const Head h = p.this_head();
  const int first = static_cast<int>(blockIdx.x) * kTileRows;  // early keys have the most queries
  const int warp_row = warp_index() * kWarpRows;
  const std::int64_t statistics = p.statistics(h);
  const float scale = p.scale * kLog2E;
  k.copy(p.packed(p.qkv, 1, h), first, p.time, p.head_size, p.aligned);
  v.copy(p.packed(p.qkv, 2, h), first, p.time, p.head_size, p.aligned);

  Accumulator<kHead> d_k, d_v;
  for (int begin = first / kQueries * kQueries; begin < p.time; begin += kQueries) {
    const TileFactors<kDrop, kQueries> factors(
        [&](int row, int column) { return p.drop(h, begin + column, first + warp_row + row); });
    q.copy(p.packed(p.qkv, 0, h), begin, p.time, p.head_size, p.aligned);
    d_o.copy(p.plain(d_out, h), begin, p.time, p.head_size, p.aligned);
    for (int i = static_cast<int>(threadIdx.x); i < kQueries; i += kTileBlock) {
      const bool present = begin + i < p.time;
      lse_tile[i] = present ? lse[statistics + begin + i] * kLog2E : 0.0f;
      dots_tile[i] = present ? dots[statistics + begin + i] : 0.0f;
    }
    commit_copies();
    wait_copies<0>();
    block_barrier();
    Accumulator<kQueries> s, d_p;
    multiply_transposed(s, k, warp_row, q);
    multiply_transposed(d_p, v, warp_row, d_o);
#pragma unroll
    for (int i = 0; i < kQueries / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int column = s.column(i, j), query = begin + column,
                  key = first + warp_row + s.row(j);
        const bool seen = key <= query && query < p.time;
        const float probability =
            seen ? exp2_approximate(s.value[i][j] * scale - lse_tile[column]) : 0.0f;
        const float factor = factors(i, j, p.keep);
        s.value[i][j] = probability * factor;
        d_p.value[i][j] = probability * (d_p.value[i][j] * factor - dots_tile[column]);
      }
    }
    multiply(d_v, s, d_o);
    multiply(d_k, d_p, q);
    block_barrier();  // all have read these tiles before the next copies
  }

  const HeadRows<T> to_k = p.packed(d_qkv, 1, h), to_v = p.packed(d_qkv, 2, h);
#pragma unroll
  for (int i = 0; i < kHead / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int key = first + warp_row + d_k.row(j), column = d_k.column(i, j);
      if (key >= p.time || column >= p.head_size) continue;
      to_k.row(key)[column] = narrow<T>(d_k.value[i][j] * p.scale);
      to_v.row(key)[column] = narrow<T>(d_v.value[i][j]);
    }
  }
}

// ---- backward by queries ------------------------------------------------------------------------

template <class T, int kHead>
struct QueryTiles {
  static constexpr int kKeys = kHead > 64 ? 32 : 64;
  using Queries = Tile<T, kHead, kTileRows>;
  using Keys = Tile<T, kHead, kKeys>;
  static constexpr std::size_t kBytes = 2 * Queries::kBytes + 2 * Keys::kBytes;
};

// d_q of 64 queries, 16 a warp.
template <class T, int kHead, bool kDrop>
__global__ void __launch_bounds__(kTileBlock, 1)
    backward_queries_kernel(Problem<T> p, T* d_qkv, const T* d_out, const float* lse,
                            const float* dots) {
  using Tiles = QueryTiles<T, kHead>;
  constexpr int kKeys = Tiles::kKeys;
  GPU_DYNAMIC_SHARED(T, shared);
  const typename Tiles::Queries q(shared), d_o(shared + Tiles::Queries::kElements);
  const typename Tiles::Keys k(shared + 2 * Tiles::Queries::kElements),
      v(shared + 2 * Tiles::Queries::kElements + Tiles::Keys::kElements);
  const Head h = p.this_head();
  const int first = (static_cast<int>(gridDim.x - 1 - blockIdx.x)) * kTileRows;
  const int end = first + kTileRows < p.time ? first + kTileRows : p.time;
  const int warp_row = warp_index() * kWarpRows;
  const float scale = p.scale * kLog2E;
  q.copy(p.packed(p.qkv, 0, h), first, p.time, p.head_size, p.aligned);
  d_o.copy(p.plain(d_out, h), first, p.time, p.head_size, p.aligned);

  float row_lse[2], row_dots[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int query = first + warp_row + lane_index() / 4 + r * 8;
    const bool present = query < p.time;
    row_lse[r] = present ? lse[p.statistics(h) + query] * kLog2E : 0.0f;
    row_dots[r] = present ? dots[p.statistics(h) + query] : 0.0f;
  }
  Accumulator<kHead> d_q;
  for (int begin = 0; begin < end; begin += kKeys) {
    k.copy(p.packed(p.qkv, 1, h), begin, p.time, p.head_size, p.aligned);
    v.copy(p.packed(p.qkv, 2, h), begin, p.time, p.head_size, p.aligned);
    commit_copies();
    wait_copies<0>();
    block_barrier();
    const TileFactors<kDrop, kKeys> factors(
        [&](int row, int column) { return p.drop(h, first + warp_row + row, begin + column); });
    Accumulator<kKeys> s, d_p;
    multiply_transposed(s, q, warp_row, k);
    multiply_transposed(d_p, d_o, warp_row, v);
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = begin + s.column(i, j), query = first + warp_row + s.row(j);
        const bool seen = key <= query && query < p.time;
        const float probability =
            seen ? exp2_approximate(s.value[i][j] * scale - row_lse[j / 2]) : 0.0f;
        const float factor = factors(i, j, p.keep);
        d_p.value[i][j] = probability * (d_p.value[i][j] * factor - row_dots[j / 2]);
      }
    }
    multiply(d_q, d_p, k);
    block_barrier();
  }

  const HeadRows<T> to = p.packed(d_qkv, 0, h);
#pragma unroll
  for (int i = 0; i < kHead / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int query = first + warp_row + d_q.row(j), column = d_q.column(i, j);
      if (query >= end || column >= p.head_size) continue;
      to.row(query)[column] = narrow<T>(d_q.value[i][j] * p.scale);
    }
  }
}

// ---- launchers ----------------------------------------------------------------------------------

// Calls fn.operator()<kHead, kDrop>() with the padded size that holds a head: GPT-2's, or twice
// that.
template <class T, class Fn>
void with_variant(const Problem<T>& p, const Fn& fn) {
  const bool drop = p.dropout.active();
  if (p.head_size <= 64) {
    return drop ? fn.template operator()<64, true>() : fn.template operator()<64, false>();
  }
  if (p.head_size <= 128) {
    return drop ? fn.template operator()<128, true>() : fn.template operator()<128, false>();
  }
  throw InternalError(concat("attention: a head of ", p.head_size, ", expected at most 128"));
}

template <class T>
void launch_dots(const AttentionBackward& a, float* dots, Stream stream) {
  const Problem<T> p = problem_of<T>(a);
  gpu_launch(attention_launch(p, kTileWarps, kTileBlock, 0, stream), dots_kernel<T>, p, dots,
             a.d_out.as<T>(), a.out.as<T>());
}

template <class T>
void launch(const AttentionForward& a, Stream stream) {
  const Problem<T> p = problem_of<T>(a);
  with_variant(p, [&]<int kHead, bool kDrop>() {
    gpu_launch(attention_launch(p, kTileRows, kTileBlock, ForwardTiles<T, kHead>::kBytes, stream),
               forward_kernel<T, kHead, kDrop>, p, a.out.as<T>(), a.lse.as<float>());
  });
}

template <class T>
void launch(const AttentionBackward& a, const float* dots, Stream stream) {
  const Problem<T> p = problem_of<T>(a);
  with_variant(p, [&]<int kHead, bool kDrop>() {
    gpu_launch(
        attention_launch(p, kTileRows, kTileBlock, KeyTiles<T, kHead, kDrop>::kBytes, stream),
        backward_keys_kernel<T, kHead, kDrop>, p, a.d_qkv.as<T>(), a.d_out.as<T>(),
        a.lse.as<float>(), dots);
    gpu_launch(attention_launch(p, kTileRows, kTileBlock, QueryTiles<T, kHead>::kBytes, stream),
               backward_queries_kernel<T, kHead, kDrop>, p, a.d_qkv.as<T>(), a.d_out.as<T>(),
               a.lse.as<float>(), dots);
  });
}

}  // namespace

void attention_forward(const AttentionForward& a, Stream stream) {
  dispatch_any_float(a.qkv.dtype, "attention_forward", [&]<class T>() {
    if constexpr (sizeof(T) == 2) {
      launch<T>(a, stream);
    } else {
      attention_forward_fp32(a, stream);
    }
  });
}

void attention_backward(const AttentionBackward& a, Stream stream) {
  float* const dots = static_cast<float*>(a.workspace.data);
  dispatch_any_float(a.qkv.dtype, "attention_backward", [&]<class T>() {
    launch_dots<T>(a, dots, stream);
    if constexpr (sizeof(T) == 2) {
      launch<T>(a, dots, stream);
    } else {
      attention_backward_fp32(a, dots, stream);
    }
  });
}

}  // namespace gpt2train::cuda
