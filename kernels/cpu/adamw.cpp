// One pass over weights, gradients and moments: the kernel is bound by memory.
#include <algorithm>
#include <cmath>

#include "gpt2train/core/moment_code.h"
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

// Elements that are opened together: whole blocks of codes, and whole vectors of random numbers.
constexpr std::int64_t kOpenedTogether = 1024;
static_assert(kOpenedTogether % kCodeBlock == 0 && kOpenedTogether % (8 * simd::kWidth) == 0);

// One for each element of a stretch.
class RandomHalves {
 public:
  RandomHalves(const AdamW& args, RandomUse use)
      : rounding_{.seed = args.seed, .update = static_cast<std::uint64_t>(args.update)},
        use_(use) {}

  void draw(std::int64_t first, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i += 8 * simd::kWidth) {
      simd::store(words_ + i / 2, simd::philox(rounding_.counter(use_, first + i), rounding_.seed));
    }
  }
  // That of element i and those after it, as many as Halves has.
  template <class Halves>
  Halves at(std::int64_t i) const {
    Halves halves;
    __builtin_memcpy(&halves, reinterpret_cast<const char*>(words_) + 2 * i, sizeof halves);
    return halves;
  }

 private:
  Rounding rounding_;
  RandomUse use_;
  std::uint32_t
      words_[kOpenedTogether / 2 + simd::kWidth / 2];  // a vector may begin at the last element
};

// What an update reads and writes, a stretch at a time: here as it is, fp32.
template <class T>
class Array {
 public:
  Array(const TensorView& view, const TensorView&, const AdamW&, RandomUse) : data_(view.as<T>()) {}

  void open(std::int64_t first, std::int64_t) { at_ = data_ + first; }
  void close() {}

  // Element i of the stretch and those after it.
  template <class Lanes>
  Floats load(std::int64_t i, Lanes lanes) const {
    return simd::load(at_ + i, lanes);
  }
  template <class Lanes>
  void store(std::int64_t i, Floats x, Lanes lanes) {
    simd::store(at_ + i, x, lanes);
  }

 private:
  T* data_;
  T* at_ = nullptr;
};

// Rounded stochastically.
template <>
class Array<bf16> {
 public:
  Array(const TensorView& view, const TensorView&, const AdamW& args, RandomUse use)
      : data_(view.as<bf16>()), random_(args, use) {}

  void open(std::int64_t first, std::int64_t count) {
    at_ = data_ + first;
    random_.draw(first, count);
  }
  void close() {}

  template <class Lanes>
  Floats load(std::int64_t i, Lanes lanes) const {
    return simd::load(at_ + i, lanes);
  }
  template <class Lanes>
  void store(std::int64_t i, Floats x, Lanes lanes) {
    simd::store(at_ + i, x, simd::widen(random_.at<simd::Halves>(i)), lanes);
  }

 private:
  bf16* data_;
  RandomHalves random_;
  bf16* at_ = nullptr;
};

// Codes, in fp32 between open and close: the scale of a block is known when all of it is.
template <class Code>
requires(sizeof(Code) == 1) class Array<Code> {
 public:
  Array(const TensorView& view, const TensorView& scales, const AdamW& args, RandomUse use)
      : data_(view.as<Code>()), scales_(scales.as<float>()), random_(args, use) {}

  void open(std::int64_t first, std::int64_t count) {
    at_ = data_ + first;
    scale_at_ = scales_ + first / kCodeBlock;
    count_ = count;
    random_.draw(first, count);
    for_each_block([&](std::int64_t begin, std::int64_t end, float& scale) {
      const float old = scale;
      for (std::int64_t i = begin; i < end; ++i) values_[i] = decode(at_[i], old);
    });
  }
  void close() {
    for_each_block([&](std::int64_t begin, std::int64_t end, float& scale) {
      Floats largest = {};
      simd::for_each(end - begin, [&](std::int64_t i, auto lanes) {
        largest = simd::max(simd::abs(simd::load(values_ + begin + i, lanes)), largest);
      });
      scale = code_scale(simd::max(largest));
      const float inverse = inverse_of(scale);
      for (std::int64_t i = begin; i < end; ++i) {
        at_[i] = encode<Code>(values_[i], inverse, random_.at<std::uint16_t>(i));
      }
    });
  }

  template <class Lanes>
  Floats load(std::int64_t i, Lanes lanes) const {
    return simd::load(values_ + i, lanes);
  }
  template <class Lanes>
  void store(std::int64_t i, Floats x, Lanes lanes) {
    simd::store(values_ + i, x, lanes);
  }

 private:
  template <class Body>
  void for_each_block(const Body& body) const {
    for (std::int64_t begin = 0; begin < count_; begin += kCodeBlock) {
      body(begin, std::min(begin + kCodeBlock, count_), scale_at_[begin / kCodeBlock]);
    }
  }

  Code* data_;
  float* scales_;
  RandomHalves random_;
  Code* at_ = nullptr;
  float* scale_at_ = nullptr;
  std::int64_t count_ = 0;
  float values_[kOpenedTogether];
};

// Of the whole arrays. P is what is updated; T is rounded from it, or is P itself.
template <class P, class T, class M>
struct Arrays {
  explicit Arrays(const AdamW& args)
      : updated(args.masters.present() ? args.masters : args.weights, {}, args,
                RandomUse::kRoundWeight),
        m(args.m, args.m_scales, args, RandomUse::kRoundFirstMoment),
        v(args.v, args.v_scales, args, RandomUse::kRoundSecondMoment),
        gradients(args.gradients.as<float>()),
        rounded(args.masters.present() ? args.weights.as<T>() : nullptr) {}

  void open(std::int64_t first, std::int64_t count) {
    updated.open(first, count);
    m.open(first, count);
    v.open(first, count);
  }
  void close() {
    updated.close();
    m.close();
    v.close();
  }

  Array<P> updated;
  Array<M> m;
  Array<SecondMoment<M>> v;
  const float* gradients;
  T* rounded;
};

// Elements [begin, end) of the stretch that begins at `first`, all decayed or none.
template <class P, class T, class M>
void update(Arrays<P, T, M>& a, const Factors& f, std::int64_t first, std::int64_t begin,
            std::int64_t end) {
  const float* gradients = a.gradients + first;
  T* rounded = a.rounded == nullptr ? nullptr : a.rounded + first;

  simd::for_each(end - begin, [&](std::int64_t each, auto lanes) {
    const std::int64_t i = begin + each;
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
    for (std::int64_t first = begin; first < end; first += kOpenedTogether) {
      const std::int64_t last = std::min(first + kOpenedTogether, end);
      arrays.open(first, last - first);
      for (; range != args.ranges.end() && range->begin < last; ++range) {
        Factors f = factors;
        f.decay = range->decay ? args.weight_decay : 0.0f;
        update(arrays, f, first, std::max(range->begin, first) - first,
               std::min(range->end, last) - first);
        if (range->end > last) break;
      }
      arrays.close();
    }
  });
}

}  // namespace

void adamw(const AdamW& args, Stream) {
  dispatch_moment(args.m.dtype, "adamw", [&]<class M>() {
    dispatch_float(args.weights.dtype, "adamw", [&]<class T>() {
      if (args.masters.present()) return update_all<float, T, M>(args);
      update_all<T, T, M>(args);
    });
  });
}

}  // namespace gpt2train::cpu
