// One pass over weights, gradients and moments: the kernel is bound by memory.
#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/philox.h"
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

constexpr std::int64_t kDrawnTogether = 1024;  // elements whose random numbers are drawn together

// What an update reads and writes: fp32, or bf16 rounded stochastically.
template <class T>
class Array {
 public:
  Array(const TensorView& view, const AdamW& args, RandomUse use)
      : data_(view.as<T>()),
        rounding_{.seed = args.seed, .update = static_cast<std::uint64_t>(args.update)},
        use_(use) {}

  // Elements [first, first + count) are next, count <= kDrawnTogether.
  void start(std::int64_t first, std::int64_t count) {
    at_ = data_ + first;
    if constexpr (kRounded) {
      shift_ = first % 8;
      for (std::int64_t i = 0; i < shift_ + count; i += 8 * simd::kWidth) {
        simd::store(words_ + i / 2,
                    simd::philox(rounding_.counter(use_, first - shift_ + i), rounding_.seed));
      }
    }
  }

  template <class Lanes>
  Floats load(std::int64_t i, Lanes lanes) const {
    return simd::load(at_ + i, lanes);
  }
  template <class Lanes>
  void store(std::int64_t i, Floats x, Lanes lanes) const {
    if constexpr (kRounded) {
      simd::Halves random;
      const char* const halves = reinterpret_cast<const char*>(words_);
      __builtin_memcpy(&random, halves + 2 * (shift_ + i), sizeof random);
      simd::store(at_ + i, x, simd::widen(random), lanes);
    } else {
      simd::store(at_ + i, x, lanes);
    }
  }

 private:
  static constexpr bool kRounded = sizeof(T) == 2;
  T* data_;
  Rounding rounding_;
  RandomUse use_;
  T* at_ = nullptr;
  std::int64_t shift_ = 0;  // of the stretch into a group of eight
  std::uint32_t words_[kRounded ? kDrawnTogether / 2 + 4 * simd::kWidth : 1] = {};
};

// Of the whole arrays. P is what is updated; T is rounded from it, or is P itself.
template <class P, class T, class M>
struct Arrays {
  explicit Arrays(const AdamW& args)
      : updated(args.masters.present() ? args.masters : args.weights, args,
                RandomUse::kRoundWeight),
        m(args.m, args, RandomUse::kRoundFirstMoment),
        v(args.v, args, RandomUse::kRoundSecondMoment),
        gradients(args.gradients.as<float>()),
        rounded(args.masters.present() ? args.weights.as<T>() : nullptr) {}

  Array<P> updated;
  Array<M> m, v;
  const float* gradients;
  T* rounded;
};

// Elements [begin, begin + count), all decayed or none.
template <class P, class T, class M>
void update(Arrays<P, T, M>& a, const Factors& f, std::int64_t begin, std::int64_t count) {
  a.updated.start(begin, count);
  a.m.start(begin, count);
  a.v.start(begin, count);
  const float* gradients = a.gradients + begin;
  T* rounded = a.rounded == nullptr ? nullptr : a.rounded + begin;

  simd::for_each(count, [&](std::int64_t i, auto lanes) {
    const Floats g = simd::load(gradients + i, lanes) * f.clip;
    const Floats m = a.m.load(i, lanes) * f.beta1 + g * (1.0f - f.beta1);
    const Floats v = a.v.load(i, lanes) * f.beta2 + g * g * (1.0f - f.beta2);
    const Floats p = a.updated.load(i, lanes);
    const Floats step = m * f.first / (simd::sqrt(v * f.second) + f.epsilon) + p * f.decay;
    const Floats updated = p - step * f.learning_rate;
    a.m.store(i, m, lanes);
    a.v.store(i, v, lanes);
    a.updated.store(i, updated, lanes);
    if (rounded != nullptr) simd::store(rounded + i, updated, lanes);
  });
}

template <class P, class T, class M>
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
    Arrays<P, T, M> arrays(args);
    auto range = std::partition_point(args.ranges.begin(), args.ranges.end(),
                                      [&](const DecayRange& r) { return r.end <= begin; });
    for (; range != args.ranges.end() && range->begin < end; ++range) {
      Factors f = factors;
      f.decay = range->decay ? args.weight_decay : 0.0f;
      const std::int64_t last = std::min(end, range->end);
      for (std::int64_t at = std::max(begin, range->begin); at < last; at += kDrawnTogether) {
        update(arrays, f, at, std::min(kDrawnTogether, last - at));
      }
    }
  });
}

}  // namespace

void adamw(const AdamW& args, Stream) {
  dispatch_float(args.m.dtype, "adamw", [&]<class M>() {
    dispatch_float(args.weights.dtype, "adamw", [&]<class T>() {
      if (args.masters.present()) return update_all<float, T, M>(args);
      update_all<T, T, M>(args);
    });
  });
}

}  // namespace gpt2train::cpu
