#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

using simd::Floats;

// Shared by the forward pass and the recomputation, so both give the same bits.
template <class T>
void normalise_row(T* out, const T* in, float mean, float rstd, const T* gamma, const T* beta,
                   std::int64_t width) {
  simd::for_each(width, [&](std::int64_t i, auto lanes) {
    Floats y = (simd::load(in + i, lanes) - mean) * rstd * simd::load(gamma + i, lanes);
    if (beta != nullptr) y += simd::load(beta + i, lanes);
    simd::store(out + i, y, lanes);
  });
}

template <class T>
float mean_of(const T* x, std::int64_t width) {
  Floats total = {};
  simd::for_each(width, [&](std::int64_t i, auto lanes) { total += simd::load(x + i, lanes); });
  return simd::sum(total) / static_cast<float>(width);
}

// Around the mean, in a second pass: E[x^2] - mean^2 would cancel.
template <class T>
float variance_of(const T* x, float mean, std::int64_t width) {
  Floats total = {};
  simd::for_each(width, [&](std::int64_t i, auto lanes) {
    const Floats d = simd::load(x + i, lanes, mean) - mean;
    total += d * d;
  });
  return simd::sum(total) / static_cast<float>(width);
}

template <class T>
void forward(const LayerNormForward& args) {
  const std::int64_t rows = args.in.rows(), width = args.in.width();
  T* out = args.out.as<T>();
  float* means = args.mean.as<float>();
  float* rstds = args.rstd.as<float>();
  const T* in = args.in.as<T>();
  const T* branch = args.branch.as_or_null<T>();
  T* sum = args.sum.as_or_null<T>();
  const T* gamma = args.gamma.as<T>();
  const T* beta = args.beta.as_or_null<T>();

#pragma omp parallel if (rows * width > kParallelWork)
  {
    RowMask masks(args.dropout, args.time, width);
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t begin = row * width;
      const T* x = in + begin;
      if (branch != nullptr) {
        for_each_stretch(masks, row, 0, width, [&](auto column, auto count, const float* mask) {
          const std::int64_t at = begin + column;
          simd::for_each(count, [&](std::int64_t i, auto lanes) {
            const Floats dropped = simd::load(branch + at + i, lanes) * simd::load(mask + i);
            simd::store(sum + at + i, simd::load(in + at + i, lanes) + dropped, lanes);
          });
        });
        x = sum + begin;  // as rounded: the backward pass sees no other
      }
      const float mean = mean_of(x, width);
      const float rstd = 1.0f / std::sqrt(variance_of(x, mean, width) + args.epsilon);
      normalise_row(out + begin, x, mean, rstd, gamma, beta, width);
      means[row] = mean;
      rstds[row] = rstd;
    }
  }
}

// d_in = rstd * (g - mean(g) - x_hat * mean(g * x_hat)) with g = d_out * gamma. Adds the row's
// terms of d_gamma and d_beta to the block's partial sums.
template <class T>
void backward_row(T* d_in, float* d_gamma, float* d_beta, const T* d_out, const T* in, float mean,
                  float rstd, const T* gamma, std::int64_t width, bool overwrite) {
  Floats sum_g = {}, sum_gx = {};
  simd::for_each(width, [&](std::int64_t i, auto lanes) {
    const Floats d = simd::load(d_out + i, lanes);
    const Floats x_hat = (simd::load(in + i, lanes) - mean) * rstd;
    const Floats g = d * simd::load(gamma + i, lanes);
    sum_g += g;
    sum_gx += g * x_hat;
    simd::store(d_gamma + i, simd::load(d_gamma + i, lanes) + d * x_hat, lanes);
    if (d_beta != nullptr) simd::store(d_beta + i, simd::load(d_beta + i, lanes) + d, lanes);
  });
  const float mean_g = simd::sum(sum_g) / static_cast<float>(width);
  const float mean_gx = simd::sum(sum_gx) / static_cast<float>(width);
  simd::for_each(width, [&](std::int64_t i, auto lanes) {
    const Floats x_hat = (simd::load(in + i, lanes) - mean) * rstd;
    const Floats g = simd::load(d_out + i, lanes) * simd::load(gamma + i, lanes);
    Floats d = (g - mean_g - x_hat * mean_gx) * rstd;
    if (!overwrite) d += simd::load(d_in + i, lanes);
    simd::store(d_in + i, d, lanes);
  });
}

template <class T>
void backward(const LayerNormBackward& args) {
  const std::int64_t width = args.in.width();
  const RowBlocks blocks(args.in.rows());
  T* d_in = args.d_in.as<T>();
  const T* d_out = args.d_out.as<T>();
  const T* in = args.in.as<T>();
  const float* means = args.mean.as<float>();
  const float* rstds = args.rstd.as<float>();
  const T* gamma = args.gamma.as<T>();
  float* d_gamma = static_cast<float*>(args.workspace.data);
  float* d_beta = args.d_beta.present() ? d_gamma + blocks.count * width : nullptr;

#pragma omp parallel for schedule(static) if (blocks.rows * width > kParallelWork)
  for (std::int64_t block = 0; block < blocks.count; ++block) {
    float* block_gamma = d_gamma + block * width;
    float* block_beta = d_beta != nullptr ? d_beta + block * width : nullptr;
    std::fill_n(block_gamma, width, 0.0f);
    if (block_beta != nullptr) std::fill_n(block_beta, width, 0.0f);
    for (std::int64_t row = blocks.begin(block); row < blocks.end(block); ++row) {
      backward_row(d_in + row * width, block_gamma, block_beta, d_out + row * width,
                   in + row * width, means[row], rstds[row], gamma, width, args.overwrite_d_in);
    }
  }
  add_partials(args.d_gamma.as<float>(), d_gamma, blocks.count, width, args.accumulate);
  if (d_beta != nullptr) {
    add_partials(args.d_beta.as<float>(), d_beta, blocks.count, width, args.accumulate);
  }
}

template <class T>
void recompute(const LayerNormRecompute& args) {
  const std::int64_t rows = args.in.rows(), width = args.in.width();
  T* out = args.out.as<T>();
  const T* in = args.in.as<T>();
  const float* means = args.mean.as<float>();
  const float* rstds = args.rstd.as<float>();
  const T* gamma = args.gamma.as<T>();
  const T* beta = args.beta.as_or_null<T>();

#pragma omp parallel for schedule(static) if (rows * width > kParallelWork)
  for (std::int64_t row = 0; row < rows; ++row) {
    normalise_row(out + row * width, in + row * width, means[row], rstds[row], gamma, beta, width);
  }
}

}  // namespace

std::size_t layernorm_backward_workspace(const LayerNormBackward& args) {
  const std::int64_t sums = args.d_beta.present() ? 2 : 1;
  const std::int64_t blocks = RowBlocks(args.in.rows()).count;
  return static_cast<std::size_t>(sums * blocks * args.in.width()) * sizeof(float);
}

void layernorm_forward(const LayerNormForward& args, Stream) {
  dispatch_float(args.in.dtype, "layernorm_forward", [&]<class T>() { forward<T>(args); });
}

void layernorm_backward(const LayerNormBackward& args, Stream) {
  dispatch_float(args.in.dtype, "layernorm_backward", [&]<class T>() { backward<T>(args); });
}

void layernorm_recompute(const LayerNormRecompute& args, Stream) {
  dispatch_float(args.in.dtype, "layernorm_recompute", [&]<class T>() { recompute<T>(args); });
}

}  // namespace gpt2train::cpu
