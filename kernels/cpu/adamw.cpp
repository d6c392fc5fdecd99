// One pass over weights, gradients and moments: the kernel is bound by memory.
#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

using simd::Floats;

struct Factors {
  float clip;  // on the gradient
  float learning_rate;
  float first, second;  // bias corrections: m_hat = m * first, v_hat = v * second
  float beta1, beta2;
  float epsilon;
  float decay;  // weight decay, or 0
};

// Elements [begin, end), all decayed or none. `rounded` is null where the weights are the masters.
template <class T>
void update(const AdamW& args, const Factors& f, std::int64_t begin, std::int64_t end) {
  float* masters = (args.masters.present() ? args.masters : args.weights).as<float>() + begin;
  T* rounded = args.masters.present() ? args.weights.as<T>() + begin : nullptr;
  const float* gradients = args.gradients.as<float>() + begin;
  float* first_moments = args.m.as<float>() + begin;
  float* second_moments = args.v.as<float>() + begin;

  simd::for_each(end - begin, [&](std::int64_t i, auto lanes) {
    const Floats g = simd::load(gradients + i, lanes) * f.clip;
    const Floats m = simd::load(first_moments + i, lanes) * f.beta1 + g * (1.0f - f.beta1);
    const Floats v = simd::load(second_moments + i, lanes) * f.beta2 + g * g * (1.0f - f.beta2);
    const Floats p = simd::load(masters + i, lanes);
    const Floats step = m * f.first / (simd::sqrt(v * f.second) + f.epsilon) + p * f.decay;
    const Floats updated = p - step * f.learning_rate;
    simd::store(first_moments + i, m, lanes);
    simd::store(second_moments + i, v, lanes);
    simd::store(masters + i, updated, lanes);
    if (rounded != nullptr) simd::store(rounded + i, updated, lanes);
  });
}

template <class T>
void update_all(const AdamW& args) {
  const float* state = args.state.as<float>();
  if (state[kGradStateFinite] == 0.0f) return;
  const double t = static_cast<double>(args.update);
  Factors factors = {
      .clip = state[kGradStateClip],
      .learning_rate = args.learning_rate,
      .first = static_cast<float>(1.0 / (1.0 - std::pow(double{args.beta1}, t))),
      .second = static_cast<float>(1.0 / (1.0 - std::pow(double{args.beta2}, t))),
      .beta1 = args.beta1,
      .beta2 = args.beta2,
      .epsilon = args.epsilon,
      .decay = 0.0f,
  };
  for_each_piece(args.weights.count(), [&, factors](std::int64_t begin, std::int64_t count) {
    const std::int64_t end = begin + count;
    auto range = std::partition_point(args.ranges.begin(), args.ranges.end(),
                                      [&](const DecayRange& r) { return r.end <= begin; });
    for (; range != args.ranges.end() && range->begin < end; ++range) {
      Factors f = factors;
      f.decay = range->decay ? args.weight_decay : 0.0f;
      update<T>(args, f, std::max(begin, range->begin), std::min(end, range->end));
    }
  });
}

}  // namespace

void adamw(const AdamW& args, Stream) {
  dispatch_float(args.weights.dtype, "adamw", [&]<class T>() { update_all<T>(args); });
}

}  // namespace gpt2train::cpu
