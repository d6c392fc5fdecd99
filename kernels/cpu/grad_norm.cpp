#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

constexpr std::int64_t kPiece = 64 * 1024;

std::int64_t piece_count(std::int64_t count) {
  return (count + kPiece - 1) / kPiece;
}

// In double, so a finite gradient can't overflow and small ones are not lost among many.
double sum_of_squares(const float* values, std::int64_t count) {
  typedef float Half __attribute__((vector_size(2 * simd::kWidth)));
  typedef double Doubles __attribute__((vector_size(4 * simd::kWidth)));
  Doubles low = {}, high = {};
  simd::for_each(count, [&](std::int64_t i, auto lanes) {
    const simd::Floats x = simd::load(values + i, lanes);
    Half halves[2];
    __builtin_memcpy(halves, &x, sizeof x);
    const Doubles a = __builtin_convertvector(halves[0], Doubles);
    const Doubles b = __builtin_convertvector(halves[1], Doubles);
    low += a * a;
    high += b * b;
  });
  const Doubles lane = low + high;
  double total = 0.0;
  for (int i = 0; i < simd::kWidth / 2; ++i) total += lane[i];
  return total;
}

}  // namespace

std::size_t grad_norm_workspace(const GradNorm& args) {
  return static_cast<std::size_t>(piece_count(args.gradients.count())) * sizeof(double);
}

void grad_norm(const GradNorm& args, Stream) {
  const float* gradients = args.gradients.as<float>();
  const std::int64_t count = args.gradients.count();
  const std::int64_t pieces = piece_count(count);
  double* sums = static_cast<double*>(args.workspace.data);

#pragma omp parallel for schedule(static) if (count > kParallelWork)
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    const std::int64_t begin = piece * kPiece;
    sums[piece] = sum_of_squares(gradients + begin, std::min(kPiece, count - begin));
  }
  double total = 0.0;
  for (std::int64_t piece = 0; piece < pieces; ++piece) total += sums[piece];

  const double norm = std::sqrt(total) / double{args.loss_scale};
  const double clip = args.max_norm > 0.0f ? std::min(1.0, args.max_norm / norm) : 1.0;
  float* state = args.state.as<float>();
  state[kGradStateNorm] = static_cast<float>(norm);
  state[kGradStateClip] = static_cast<float>(clip / double{args.loss_scale});
  state[kGradStateFinite] = std::isfinite(total) ? 1.0f : 0.0f;
}

}  // namespace gpt2train::cpu
