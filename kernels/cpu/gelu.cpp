// Both forms are x * gate(x), where gate is a distribution function: the normal one, or the
// logistic one of 2 sqrt(2/pi) (x + 0.044715 x^3), since (1 + tanh u) / 2 = 1 / (1 + e^-2u). Each
// is computed for -|x| and reflected, so the tails keep their relative accuracy.
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

using simd::Floats;

// gate(x) and its derivative.
struct Gate {
  Floats value;
  Floats slope;
};

// Both gates are 0 or 1 to the last bit from here on; the clamp keeps squares and cubes finite.
constexpr float kSaturation = 16.0f;

template <GeluForm form>
GPT2_SIMD Gate gate(Floats x);

// Phi(-t) = e^(-t^2 / 2) * w * polynomial(w), w = 1 / (1 + 0.35 t): a minimax fit over [0, 16] with
// a relative error of 3.2e-8.
template <>
GPT2_SIMD Gate gate<GeluForm::kErf>(Floats x) {
  const Floats t = simd::min(simd::abs(x), simd::splat(kSaturation));
  const Floats e = simd::exp(t * t * -0.5f);
  const Floats w = 1.0f / (t * 0.35f + 1.0f);
  Floats p = w * -0.0291652934f + 0.144067601f;
  p = p * w - 0.255916238f;
  p = p * w + 0.159409751f;
  p = p * w - 0.0232757491f;
  p = p * w + 0.105579997f;
  p = p * w + 0.11981414f;
  p = p * w + 0.13986453f;
  p = p * w + 0.139621247f;
  const Floats tail = e * (p * w);
  return {x > 0.0f ? 1.0f - tail : tail, e * 0.39894228f};  // 1 / sqrt(2 pi)
}

template <>
GPT2_SIMD Gate gate<GeluForm::kTanh>(Floats x) {
  constexpr float kScale = 1.59576912f;  // 2 sqrt(2 / pi)
  constexpr float kCubic = 0.044715f;
  const Floats t = simd::min(simd::abs(x), simd::splat(kSaturation));
  const Floats e = simd::exp(t * (t * t * kCubic + 1.0f) * -kScale);
  const Floats q = 1.0f / (1.0f + e);
  return {x > 0.0f ? q : e * q, e * q * q * (t * t * (3.0f * kCubic) + 1.0f) * kScale};
}

template <class T, GeluForm form>
void forward(const GeluForward& args) {
  T* out = args.out.as<T>();
  const T* in = args.in.as<T>();
  for_each_piece(args.in.count(), [&](std::int64_t begin, std::int64_t count) {
    simd::for_each(count, [&](std::int64_t i, auto lanes) {
      const Floats x = simd::load(in + begin + i, lanes);
      simd::store(out + begin + i, x * gate<form>(x).value, lanes);
    });
  });
}

template <class T, GeluForm form>
void backward(const GeluBackward& args) {
  T* d_in = args.d_in.as<T>();
  const T* d_out = args.d_out.as<T>();
  const T* in = args.in.as<T>();
  for_each_piece(args.in.count(), [&](std::int64_t begin, std::int64_t count) {
    simd::for_each(count, [&](std::int64_t i, auto lanes) {
      const Floats x = simd::load(in + begin + i, lanes);
      const Gate g = gate<form>(x);
      const Floats d = simd::load(d_out + begin + i, lanes);
      simd::store(d_in + begin + i, d * (g.value + x * g.slope), lanes);
    });
  });
}

}  // namespace

void gelu_forward(const GeluForward& args, Stream) {
  dispatch_float(args.in.dtype, "gelu_forward", [&]<class T>() {
    args.form == GeluForm::kErf ? forward<T, GeluForm::kErf>(args)
                                : forward<T, GeluForm::kTanh>(args);
  });
}

void gelu_backward(const GeluBackward& args, Stream) {
  dispatch_float(args.in.dtype, "gelu_backward", [&]<class T>() {
    args.form == GeluForm::kErf ? backward<T, GeluForm::kErf>(args)
                                : backward<T, GeluForm::kTanh>(args);
  });
}

}  // namespace gpt2train::cpu
