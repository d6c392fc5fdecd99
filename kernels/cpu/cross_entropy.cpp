// Two passes over a row, which stays in the cache between them: an online maximum and sum of
// exponentials (Milakov, Gimelshein 2018), then the gradient.
#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

using simd::Floats;

// sum over j of e^(logits[j] - max); a stretch in float, the row in double.
struct Softmax {
  float max;
  double sum;
};

template <class T>
Softmax softmax(const T* logits, std::int64_t count) {
  constexpr std::int64_t kStretch = 1024;
  Softmax row = {-simd::kInfinity, 0.0};
  for (std::int64_t begin = 0; begin < count; begin += kStretch) {
    const T* x = logits + begin;
    const std::int64_t length = std::min(kStretch, count - begin);
    Floats high = simd::splat(row.max);
    simd::for_each(length, [&](std::int64_t i, auto lanes) {
      high = simd::max(simd::load(x + i, lanes, -simd::kInfinity), high);
    });
    const float max = simd::max(high);
    Floats sum = {};
    simd::for_each(length, [&](std::int64_t i, auto lanes) {
      sum += simd::exp(simd::load(x + i, lanes, -simd::kInfinity) - max);
    });
    if (max > row.max) row.sum *= std::exp(double{row.max} - double{max});
    row = {max, row.sum + double{simd::sum(sum)}};
  }
  return row;
}

template <class T>
void cross_entropy_row(const CrossEntropy& args, std::int64_t row) {
  const std::int64_t width = args.logits.width();
  T* logits = args.logits.as<T>() + row * width;
  float& loss = args.losses.as<float>()[row];
  const std::int32_t target = args.targets.as<std::int32_t>()[row];
  if (target < 0) {
    loss = 0.0f;
    if (args.write_gradient) std::fill_n(logits, width, T{});
    return;
  }

  const auto [max, sum] = softmax(logits, args.vocab);
  const float target_logit = to_float(logits[target]) - max;
  loss = static_cast<float>(std::log(sum) - double{target_logit});
  if (!args.write_gradient) return;

  const float factor = static_cast<float>(args.scale / sum);
  simd::for_each(args.vocab, [&, highest = max](std::int64_t i, auto lanes) {
    simd::store(logits + i, simd::exp(simd::load(logits + i, lanes) - highest) * factor, lanes);
  });
  // In double, because p - 1 cancels where p is near 1.
  const double p = std::exp(double{target_logit}) / sum;
  logits[target] = from_float<T>(static_cast<float>(args.scale * (p - 1.0)));
  std::fill(logits + args.vocab, logits + width, T{});
}

}  // namespace

void cross_entropy(const CrossEntropy& args, Stream) {
  dispatch_float(args.logits.dtype, "cross_entropy", [&]<class T>() {
    const std::int64_t rows = args.logits.rows();
#pragma omp parallel for schedule(static) if (args.logits.count() > kParallelWork)
    for (std::int64_t row = 0; row < rows; ++row) cross_entropy_row<T>(args, row);
  });
}

void loss_sum(const LossSum& args, Stream) {
  const float* losses = args.losses.as<float>();
  double total = 0.0;
  for (std::int64_t i = 0; i < args.losses.count(); ++i) total += losses[i];
  float& cell = *args.cell.as<float>();
  cell = (args.accumulate ? cell : 0.0f) + static_cast<float>(args.scale * total);
}

}  // namespace gpt2train::cpu
