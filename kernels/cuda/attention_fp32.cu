// Causal attention in fp32, without tensor cores: a warp has eight rows (queries, or keys in the
// backward pass by keys) and walks tiles of 32 rows of the other side. For scores a lane has one
// row of the tile; for sums over the tile it has every 32nd column of the head.
#include "kernels/cuda/attention_problem.cuh"

namespace gpt2train::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kBlock = kWarps * kWarp;
constexpr int kOwn = 8;               // rows of a warp
constexpr int kRows = kWarps * kOwn;  // rows of a block
constexpr int kTile = kWarp;          // rows of the other side
constexpr int kMaxColumns = 4;        // of a lane: heads of up to 128

using Problem = AttentionProblem<float>;

// Rows of a head in shared memory. The odd stride puts one column of all rows into different banks.
struct Rows {
  float* data;
  int stride;

  __device__ float* row(int index) const { return data + index * stride; }
};

struct Shared {
  __device__ Shared(float* begin, int head_size) : next(begin), stride(head_size | 1) {}
  __device__ Rows take(int rows) {
    const Rows taken{next, stride};
    next += rows * stride;
    return taken;
  }
  // Four matrices of 32 rows and, for each warp, 2 x 32 weights.
  static std::size_t bytes(int head_size) {
    return (4 * kTile * static_cast<std::size_t>(head_size | 1) + kWarps * 2 * kTile) *
           sizeof(float);
  }

  float* next;
  int stride;
};

// 32 rows from `begin` on; zeros at and past `end`.
__device__ void copy(const Rows& to, const HeadRows<const float>& from, int begin, int end,
                     int head_size) {
  for (int row = warp_index(); row < kTile; row += kWarps) {
    for (int column = lane_index(); column < head_size; column += kWarp) {
      to.row(row)[column] = begin + row < end ? from.row(begin + row)[column] : 0.0f;
    }
  }
}

__device__ float dot(const float* a, const float* b, int size) {
  float sum = 0.0f;
  for (int i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

// sums[i] += the sum over the tile of weights[row] * tile[row][lane + 32 i]
__device__ __forceinline__ void add_weighted(float (&sums)[kMaxColumns], const float* weights,
                                             const Rows& tile, int head_size) {
#pragma unroll
  for (int i = 0; i < kMaxColumns; ++i) {
    const int column = lane_index() + i * kWarp;
    if (column >= head_size) continue;
    for (int row = 0; row < kTile; ++row) sums[i] += weights[row] * tile.row(row)[column];
  }
}

__device__ __forceinline__ void write(float* to, const float (&sums)[kMaxColumns], float factor,
                                      int head_size) {
#pragma unroll
  for (int i = 0; i < kMaxColumns; ++i) {
    const int column = lane_index() + i * kWarp;
    if (column < head_size) to[column] = sums[i] * factor;
  }
}

// ---- forward ------------------------------------------------------------------------------------

__global__ void __launch_bounds__(kBlock) forward_kernel(Problem p, float* out, float* lse) {
  GPU_DYNAMIC_SHARED(float, memory);
  Shared shared(memory, p.head_size);
  const Rows q = shared.take(kRows), k = shared.take(kTile), v = shared.take(kTile);
  float* const weights = shared.next + warp_index() * kTile;
  const Head h = p.this_head();
  const int first = static_cast<int>(blockIdx.x) * kRows;
  const int end = first + kRows < p.time ? first + kRows : p.time;
  copy(q, p.packed(p.qkv, 0, h), first, p.time, p.head_size);

  float o[kOwn][kMaxColumns] = {};
  float max[kOwn], sum[kOwn] = {};
#pragma unroll
  for (int i = 0; i < kOwn; ++i) max[i] = -INFINITY;
  for (int begin = 0; begin < end; begin += kTile) {
    copy(k, p.packed(p.qkv, 1, h), begin, p.time, p.head_size);
    copy(v, p.packed(p.qkv, 2, h), begin, p.time, p.head_size);
    block_barrier();
    const int key = begin + lane_index();
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int row = warp_index() * kOwn + i, query = first + row;
      if (query >= p.time || begin > query) continue;  // for the whole warp
      const float score =
          key <= query ? p.scale * dot(q.row(row), k.row(lane_index()), p.head_size) : -INFINITY;
      const float largest = fmaxf(max[i], warp_max(score));
      const float correction = expf(max[i] - largest), probability = expf(score - largest);
      max[i] = largest;
      sum[i] = sum[i] * correction + warp_sum(probability);
      weights[lane_index()] = key <= query ? probability * p.factor(h, query, key) : 0.0f;
      warp_barrier();
#pragma unroll
      for (int c = 0; c < kMaxColumns; ++c) o[i][c] *= correction;
      add_weighted(o[i], weights, v, p.head_size);
      warp_barrier();  // all have read the weights
    }
    block_barrier();
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int query = first + warp_index() * kOwn + i;
    if (query >= p.time) continue;
    write(p.plain(out, h).row(query), o[i], 1.0f / sum[i], p.head_size);
    if (lane_index() == 0) lse[p.statistics(h) + query] = max[i] + logf(sum[i]);
  }
}

// ---- backward -----------------------------------------------------------------------------------

__global__ void __launch_bounds__(kBlock)
    backward_queries_kernel(Problem p, float* d_qkv, const float* d_out, const float* lse,
                            const float* dots) {
  GPU_DYNAMIC_SHARED(float, memory);
  Shared shared(memory, p.head_size);
  const Rows q = shared.take(kRows), d_o = shared.take(kRows);
  const Rows k = shared.take(kTile), v = shared.take(kTile);
  float* const weights = shared.next + warp_index() * kTile;
  const Head h = p.this_head();
  const int first = static_cast<int>(blockIdx.x) * kRows;
  const int end = first + kRows < p.time ? first + kRows : p.time;
  copy(q, p.packed(p.qkv, 0, h), first, p.time, p.head_size);
  copy(d_o, p.plain(d_out, h), first, p.time, p.head_size);

  float d_q[kOwn][kMaxColumns] = {};
  for (int begin = 0; begin < end; begin += kTile) {
    copy(k, p.packed(p.qkv, 1, h), begin, p.time, p.head_size);
    copy(v, p.packed(p.qkv, 2, h), begin, p.time, p.head_size);
    block_barrier();
    const int key = begin + lane_index();
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int row = warp_index() * kOwn + i, query = first + row;
      if (query >= p.time || begin > query) continue;
      float d_score = 0.0f;
      if (key <= query) {
        const std::int64_t at = p.statistics(h) + query;
        const float score = p.scale * dot(q.row(row), k.row(lane_index()), p.head_size);
        const float d_probability = dot(d_o.row(row), v.row(lane_index()), p.head_size);
        d_score = expf(score - lse[at]) * (d_probability * p.factor(h, query, key) - dots[at]);
      }
      weights[lane_index()] = d_score;
      warp_barrier();
      add_weighted(d_q[i], weights, k, p.head_size);
      warp_barrier();
    }
    block_barrier();
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int query = first + warp_index() * kOwn + i;
    if (query < p.time) write(p.packed(d_qkv, 0, h).row(query), d_q[i], p.scale, p.head_size);
  }
}

__global__ void __launch_bounds__(kBlock)
    backward_keys_kernel(Problem p, float* d_qkv, const float* d_out, const float* lse,
                         const float* dots) {
  GPU_DYNAMIC_SHARED(float, memory);
  Shared shared(memory, p.head_size);
  const Rows k = shared.take(kRows), v = shared.take(kRows);
  const Rows q = shared.take(kTile), d_o = shared.take(kTile);
  float* const weights = shared.next + warp_index() * 2 * kTile;
  float* const d_weights = weights + kTile;
  const Head h = p.this_head();
  const int first = static_cast<int>(blockIdx.x) * kRows;
  copy(k, p.packed(p.qkv, 1, h), first, p.time, p.head_size);
  copy(v, p.packed(p.qkv, 2, h), first, p.time, p.head_size);

  float d_k[kOwn][kMaxColumns] = {}, d_v[kOwn][kMaxColumns] = {};
  for (int begin = first; begin < p.time; begin += kTile) {
    copy(q, p.packed(p.qkv, 0, h), begin, p.time, p.head_size);
    copy(d_o, p.plain(d_out, h), begin, p.time, p.head_size);
    block_barrier();
    const int query = begin + lane_index();
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int row = warp_index() * kOwn + i, key = first + row;
      if (key >= p.time) continue;
      float weight = 0.0f, d_score = 0.0f;
      if (key <= query && query < p.time) {
        const std::int64_t at = p.statistics(h) + query;
        const float score = p.scale * dot(k.row(row), q.row(lane_index()), p.head_size);
        const float probability = expf(score - lse[at]), factor = p.factor(h, query, key);
        const float d_probability = dot(v.row(row), d_o.row(lane_index()), p.head_size);
        weight = probability * factor;
        d_score = probability * (d_probability * factor - dots[at]);
      }
      weights[lane_index()] = weight;
      d_weights[lane_index()] = d_score;
      warp_barrier();
      add_weighted(d_v[i], weights, d_o, p.head_size);
      add_weighted(d_k[i], d_weights, q, p.head_size);
      warp_barrier();
    }
    block_barrier();
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int key = first + warp_index() * kOwn + i;
    if (key >= p.time) continue;
    write(p.packed(d_qkv, 1, h).row(key), d_k[i], p.scale, p.head_size);
    write(p.packed(d_qkv, 2, h).row(key), d_v[i], 1.0f, p.head_size);
  }
}

}  // namespace

void attention_forward_fp32(const AttentionForward& a, Stream stream) {
  const Problem p = problem_of<float>(a);
  gpu_launch(attention_launch(p, kRows, kBlock, Shared::bytes(p.head_size), stream), forward_kernel,
             p, a.out.as<float>(), a.lse.as<float>());
}

void attention_backward_fp32(const AttentionBackward& a, const float* dots, Stream stream) {
  const Problem p = problem_of<float>(a);
  const Launch launch = attention_launch(p, kRows, kBlock, Shared::bytes(p.head_size), stream);
  gpu_launch(launch, backward_keys_kernel, p, a.d_qkv.as<float>(), a.d_out.as<float>(),
             a.lse.as<float>(), dots);
  gpu_launch(launch, backward_queries_kernel, p, a.d_qkv.as<float>(), a.d_out.as<float>(),
             a.lse.as<float>(), dots);
}

}  // namespace gpt2train::cuda
