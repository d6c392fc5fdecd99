// A team of threads has a row: one warp up to 2,048 columns, a block above. Each thread keeps its
// elements in registers, so forward reads a row once. Statistics are fp32 for every T and take two
// passes, because E[x^2] - E[x]^2 cancels.
#include "kernels/layernorm.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/dropout.cuh"

namespace gpt2train::cuda {
namespace {

// ---- teams --------------------------------------------------------------------------------------

// kTeamWarps of the block's kSumWarps work on one row; a thread has kPieces runs of kRun elements.
template <int kTeamWarps_, int kRun_, int kPieces_>
struct Layout {
  static constexpr int kTeamWarps = kTeamWarps_, kRun = kRun_, kPieces = kPieces_;
  static constexpr int kTeams = kSumWarps / kTeamWarps;  // rows at a time
  static constexpr int kColumns = kTeamWarps * kWarp * kRun;

  __device__ static int team() { return warp_index() / kTeamWarps; }
  __device__ static int column(int piece) {
    return piece * kColumns + static_cast<int>(threadIdx.x) % (kTeamWarps * kWarp) * kRun;
  }
};

template <class L>
__device__ __forceinline__ float team_sum(float x) {
  x = warp_sum(x);
  if constexpr (L::kTeamWarps > 1) {
    GPU_SHARED(float, sums, L::kTeamWarps);
    block_barrier();  // of an earlier use
    if (lane_index() == 0) sums[warp_index()] = x;
    block_barrier();
    x = 0.0f;
#pragma unroll
    for (int warp = 0; warp < L::kTeamWarps; ++warp) x += sums[warp];
  }
  return x;
}

// ---- forward ------------------------------------------------------------------------------------

template <class T>
struct Forward {
  T* out;
  float* mean;
  float* rstd;
  const T* in;
  const T* branch;
  T* sum;
  const T* gamma;
  const T* beta;
  Dropout dropout;
  std::int64_t rows;
  std::int64_t per_sample;
  int width;
  float epsilon;
};

// in + dropout(branch), rounded: what the backward pass reads is what is normalised here.
template <class T, int kRun>
__device__ __forceinline__ void add_branch(float (&x)[kRun], const Forward<T>& a, std::int64_t at) {
  float branch[kRun];
  load<Reuse::kOnce>(branch, a.branch + at);
  if (a.dropout.active()) {
    float factors[kRun];
    dropout_factors(factors, a.dropout, at, a.per_sample);
#pragma unroll
    for (int i = 0; i < kRun; ++i) branch[i] *= factors[i];
  }
#pragma unroll
  for (int i = 0; i < kRun; ++i) x[i] = widen(narrow<T>(x[i] + branch[i]));
  store(a.sum + at, x);
}

template <class T, class L>
__global__ void __launch_bounds__(kSumBlock) forward_kernel(Forward<T> a) {
  const std::int64_t row = std::int64_t{blockIdx.x} * L::kTeams + L::team();
  if (row >= a.rows) return;  // whole teams leave
  const std::int64_t begin = row * a.width;
  float x[L::kPieces][L::kRun] = {};
  float total = 0.0f;
#pragma unroll
  for (int piece = 0; piece < L::kPieces; ++piece) {
    const int column = L::column(piece);
    if (column >= a.width) continue;
    load(x[piece], a.in + begin + column);
    if (a.branch != nullptr) add_branch(x[piece], a, begin + column);
#pragma unroll
    for (int i = 0; i < L::kRun; ++i) total += x[piece][i];
  }
  const float scale = 1.0f / static_cast<float>(a.width);
  const float mean = team_sum<L>(total) * scale;
  float squares = 0.0f;
#pragma unroll
  for (int piece = 0; piece < L::kPieces; ++piece) {
    if (L::column(piece) >= a.width) continue;
#pragma unroll
    for (int i = 0; i < L::kRun; ++i) squares += (x[piece][i] - mean) * (x[piece][i] - mean);
  }
  const float rstd = 1.0f / sqrtf(team_sum<L>(squares) * scale + a.epsilon);
#pragma unroll
  for (int piece = 0; piece < L::kPieces; ++piece) {
    const int column = L::column(piece);
    if (column >= a.width) continue;
    float gamma[L::kRun], beta[L::kRun] = {};
    load(gamma, a.gamma + column);
    if (a.beta != nullptr) load(beta, a.beta + column);
#pragma unroll
    for (int i = 0; i < L::kRun; ++i) {
      x[piece][i] = (x[piece][i] - mean) * rstd * gamma[i] + beta[i];
    }
    store(a.out + begin + column, x[piece]);
  }
  if (L::column(0) == 0) {
    a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

// ---- recomputation ------------------------------------------------------------------------------

template <class T>
struct Recompute {
  T* out;
  const T* in;
  const float* mean;
  const float* rstd;
  const T* gamma;
  const T* beta;
  std::int64_t rows;
  int width;
};

template <class T, int kRun>
__global__ void __launch_bounds__(kSumBlock) recompute_kernel(Recompute<T> a) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kSumWarps + warp_index();
  if (row >= a.rows) return;
  const float mean = a.mean[row], rstd = a.rstd[row];
  for (int column = lane_index() * kRun; column < a.width; column += kWarp * kRun) {
    float x[kRun], gamma[kRun], beta[kRun] = {};
    load(x, a.in + row * a.width + column);
    load(gamma, a.gamma + column);
    if (a.beta != nullptr) load(beta, a.beta + column);
#pragma unroll
    for (int i = 0; i < kRun; ++i) x[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
    store(a.out + row * a.width + column, x);
  }
}

// ---- backward -----------------------------------------------------------------------------------

template <class T>
struct Backward {
  T* d_in;
  float* partials;  // (row blocks, 2, width): of d_gamma and d_beta
  const T* d_out;
  const T* in;
  const float* mean;
  const float* rstd;
  const T* gamma;
  RowBlocks blocks;
  int width;
  bool overwrite;
};

// With x_hat = (in - mean) rstd and g = d_out gamma:
// d_in (+)= rstd (g - mean(g) - x_hat mean(g x_hat)), d_gamma += d_out x_hat, d_beta += d_out.
// A row is read twice, the second time from the cache: registers hold the two sums.
template <class T, class L>
__global__ void __launch_bounds__(kSumBlock, 1) backward_kernel(Backward<T> a) {
  float d_gamma[L::kPieces][L::kRun] = {}, d_beta[L::kPieces][L::kRun] = {};
  const std::int64_t end = a.blocks.begin(blockIdx.x + 1);
  for (std::int64_t row = a.blocks.begin(blockIdx.x) + L::team(); row < end; row += L::kTeams) {
    const std::int64_t begin = row * a.width;
    const float mean = a.mean[row], rstd = a.rstd[row];
    float sum_g = 0.0f, sum_gx = 0.0f;
#pragma unroll
    for (int piece = 0; piece < L::kPieces; ++piece) {
      const int column = L::column(piece);
      if (column >= a.width) continue;
      float x[L::kRun], d[L::kRun], gamma[L::kRun];
      load(x, a.in + begin + column);
      load(d, a.d_out + begin + column);
      load(gamma, a.gamma + column);
#pragma unroll
      for (int i = 0; i < L::kRun; ++i) {
        const float x_hat = (x[i] - mean) * rstd, g = d[i] * gamma[i];
        sum_g += g;
        sum_gx += g * x_hat;
        d_gamma[piece][i] += d[i] * x_hat;
        d_beta[piece][i] += d[i];
      }
    }
    const float scale = 1.0f / static_cast<float>(a.width);
    const float mean_g = team_sum<L>(sum_g) * scale, mean_gx = team_sum<L>(sum_gx) * scale;
#pragma unroll
    for (int piece = 0; piece < L::kPieces; ++piece) {
      const int column = L::column(piece);
      if (column >= a.width) continue;
      float x[L::kRun], d[L::kRun], gamma[L::kRun], d_in[L::kRun] = {};
      load(x, a.in + begin + column);
      load(d, a.d_out + begin + column);
      load(gamma, a.gamma + column);
      if (!a.overwrite) load(d_in, a.d_in + begin + column);
#pragma unroll
      for (int i = 0; i < L::kRun; ++i) {
        d_in[i] += rstd * (d[i] * gamma[i] - mean_g - (x[i] - mean) * rstd * mean_gx);
      }
      store(a.d_in + begin + column, d_in);
    }
  }

  float* const partials = a.partials + std::int64_t{blockIdx.x} * 2 * a.width;
  if constexpr (L::kTeamWarps == 1) {
    GPU_SHARED(float, warp_sums, kSumWarps* L::kColumns);
#pragma unroll
    for (int piece = 0; piece < L::kPieces; ++piece) {
      const int first = piece * L::kColumns;
      sum_over_warps(partials + first, a.width - first, warp_sums, d_gamma[piece]);
      sum_over_warps(partials + a.width + first, a.width - first, warp_sums, d_beta[piece]);
    }
  } else {
#pragma unroll
    for (int piece = 0; piece < L::kPieces; ++piece) {
      const int column = L::column(piece);
      if (column >= a.width) continue;
#pragma unroll
      for (int i = 0; i < L::kRun; ++i) {
        partials[column + i] = d_gamma[piece][i];
        partials[a.width + column + i] = d_beta[piece][i];
      }
    }
  }
}

// ---- launchers ----------------------------------------------------------------------------------

// Calls fn.operator()<Layout>() with the one that holds a row of this width.
template <class Fn>
void with_layout(std::int64_t width, const Fn& fn) {
  if (width % 8 != 0) {
    if (width <= 512) return fn.template operator()<Layout<1, 1, 16>>();
    if (width <= 4096) return fn.template operator()<Layout<8, 1, 16>>();
    throw InternalError(concat("layernorm: a width of ", width, " that 8 does not divide"));
  }
  if (width <= 768) return fn.template operator()<Layout<1, 8, 3>>();
  if (width <= 1024) return fn.template operator()<Layout<1, 8, 4>>();
  if (width <= 2048) return fn.template operator()<Layout<1, 8, 8>>();
  if (width <= 16384) return fn.template operator()<Layout<8, 8, 8>>();
  throw InternalError(concat("layernorm: a width of ", width, ", expected at most 16384"));
}

}  // namespace

void layernorm_forward(const LayerNormForward& a, Stream stream) {
  if (a.in.rows() == 0) return;
  dispatch_any_float(a.in.dtype, "layernorm_forward", [&]<class T>() {
    const Forward<T> args{.out = a.out.as<T>(),
                          .mean = a.mean.as<float>(),
                          .rstd = a.rstd.as<float>(),
                          .in = a.in.as<T>(),
                          .branch = a.branch.as_or_null<T>(),
                          .sum = a.sum.as_or_null<T>(),
                          .gamma = a.gamma.as<T>(),
                          .beta = a.beta.as_or_null<T>(),
                          .dropout = a.dropout,
                          .rows = a.in.rows(),
                          .per_sample = a.time * a.in.width(),
                          .width = static_cast<int>(a.in.width()),
                          .epsilon = a.epsilon};
    with_layout(args.width, [&]<class L>() {
      gpu_launch(
          {.grid = {blocks_for(args.rows, L::kTeams)}, .block = {kSumBlock}, .stream = stream},
          forward_kernel<T, L>, args);
    });
  });
}

void layernorm_recompute(const LayerNormRecompute& a, Stream stream) {
  if (a.in.rows() == 0) return;
  dispatch_any_float(a.in.dtype, "layernorm_recompute", [&]<class T>() {
    const Recompute<T> args{.out = a.out.as<T>(),
                            .in = a.in.as<T>(),
                            .mean = a.mean.as<float>(),
                            .rstd = a.rstd.as<float>(),
                            .gamma = a.gamma.as<T>(),
                            .beta = a.beta.as_or_null<T>(),
                            .rows = a.in.rows(),
                            .width = static_cast<int>(a.in.width())};
    gpu_launch({.grid = {blocks_for(args.rows, kSumWarps)}, .block = {kSumBlock}, .stream = stream},
               args.width % 8 == 0 ? recompute_kernel<T, 8> : recompute_kernel<T, 1>, args);
  });
}

void layernorm_backward(const LayerNormBackward& a, Stream stream) {
  if (a.in.rows() == 0) return;
  const RowBlocks blocks(a.in.rows());
  const std::int64_t width = a.in.width();
  float* const partials = static_cast<float*>(a.workspace.data);
  dispatch_any_float(a.in.dtype, "layernorm_backward", [&]<class T>() {
    const Backward<T> args{.d_in = a.d_in.as<T>(),
                           .partials = partials,
                           .d_out = a.d_out.as<T>(),
                           .in = a.in.as<T>(),
                           .mean = a.mean.as<float>(),
                           .rstd = a.rstd.as<float>(),
                           .gamma = a.gamma.as<T>(),
                           .blocks = blocks,
                           .width = static_cast<int>(width),
                           .overwrite = a.overwrite_d_in};
    with_layout(width, [&]<class L>() {
      gpu_launch(
          {.grid = {static_cast<unsigned>(blocks.count)}, .block = {kSumBlock}, .stream = stream},
          backward_kernel<T, L>, args);
    });
  });
  const auto finish = [&](const TensorView& out, std::int64_t which) {
    add_partials(out.as<float>(), partials + which * width, blocks.count, 2 * width, width,
                 a.accumulate, stream);
  };
  finish(a.d_gamma, 0);
  if (a.d_beta.present()) finish(a.d_beta, 1);
}

}  // namespace gpt2train::cuda
