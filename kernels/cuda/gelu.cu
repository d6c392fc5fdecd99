// x * gate(x), where gate is the normal distribution function, or the logistic one of
// 2 sqrt(2/pi) (x + 0.044715 x^3), since (1 + tanh u) / 2 = 1 / (1 + e^-2u).
#include "kernels/gelu.h"

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/elementwise.cuh"

namespace gpt2train::cuda {
namespace {

struct Gate {
  float value, slope;
};

template <GeluForm kForm>
__device__ __forceinline__ Gate gate(float x) {
  if constexpr (kForm == GeluForm::kErf) {
    // erfc keeps the relative accuracy of the tail, which 1 + erf cancels.
    return {0.5f * erfcf(x * -0.70710678f), 0.39894228f * expf(-0.5f * x * x)};
  } else {
    // Of -|x| and reflected: 1 - q cancels. From 16 on it is 0 or 1, and cubes stay finite.
    constexpr float kScale = 1.59576912f, kCubic = 0.044715f;  // kScale = 2 sqrt(2 / pi)
    const float t = fminf(fabsf(x), 16.0f), e = expf(-kScale * t * (1.0f + kCubic * t * t));
    const float q = 1.0f / (1.0f + e);
    return {x > 0.0f ? q : e * q, e * q * q * kScale * (1.0f + 3.0f * kCubic * t * t)};
  }
}

template <class T, GeluForm kForm>
struct Forward {
  T* out;
  const T* in;

  template <int kCount>
  __device__ void operator()(std::int64_t first) const {
    float x[kCount];
    load(x, in + first);
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] *= gate<kForm>(x[i]).value;
    store(out + first, x);
  }
};

template <class T, GeluForm kForm>
struct Backward {
  T* d_in;
  const T* d_out;
  const T* in;

  template <int kCount>
  __device__ void operator()(std::int64_t first) const {
    float x[kCount], d[kCount];
    load(x, in + first);
    load<Reuse::kOnce>(d, d_out + first);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Gate g = gate<kForm>(x[i]);
      d[i] *= g.value + x[i] * g.slope;
    }
    store(d_in + first, d);
  }
};

template <class T, GeluForm kForm>
void launch(const GeluForward& a, Stream stream) {
  const Forward<T, kForm> body{a.out.as<T>(), a.in.as<T>()};
  elementwise(a.in.count(), all_aligned(body.out, body.in), stream, body);
}

template <class T, GeluForm kForm>
void launch(const GeluBackward& a, Stream stream) {
  const Backward<T, kForm> body{a.d_in.as<T>(), a.d_out.as<T>(), a.in.as<T>()};
  elementwise(a.in.count(), all_aligned(body.d_in, body.d_out, body.in), stream, body);
}

}  // namespace

void gelu_forward(const GeluForward& a, Stream stream) {
  dispatch_any_float(a.in.dtype, "gelu_forward", [&]<class T>() {
    a.form == GeluForm::kErf ? launch<T, GeluForm::kErf>(a, stream)
                             : launch<T, GeluForm::kTanh>(a, stream);
  });
}

void gelu_backward(const GeluBackward& a, Stream stream) {
  dispatch_any_float(a.in.dtype, "gelu_backward", [&]<class T>() {
    a.form == GeluForm::kErf ? launch<T, GeluForm::kErf>(a, stream)
                             : launch<T, GeluForm::kTanh>(a, stream);
  });
}

}  // namespace gpt2train::cuda
