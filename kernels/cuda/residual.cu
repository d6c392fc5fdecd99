// The residual addition with dropout of its branch, and the branch's gradient.
#include "kernels/residual.h"

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/elementwise.cuh"

namespace gpt2train::cuda {
namespace {

template <class T>
struct Add {
  T* out;
  const T* in;
  const T* branch;
  Dropout dropout;
  std::int64_t per_sample;

  template <int kCount>
  __device__ void operator()(std::int64_t first) const {
    float x[kCount], y[kCount];
    load(x, in + first);
    load<Reuse::kOnce>(y, branch + first);
    if (dropout.active()) {
      float factors[kCount];
      dropout_factors(factors, dropout, first, per_sample);
#pragma unroll
      for (int i = 0; i < kCount; ++i) y[i] *= factors[i];
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] += y[i];
    store(out + first, x);
  }
};

template <class T>
struct Drop {
  T* out;
  const T* in;
  Dropout dropout;
  std::int64_t per_sample;

  template <int kCount>
  __device__ void operator()(std::int64_t first) const {
    float x[kCount], factors[kCount];
    load(x, in + first);
    dropout_factors(factors, dropout, first, per_sample);
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] *= factors[i];
    store(out + first, x);
  }
};

}  // namespace

void residual_forward(const ResidualForward& a, Stream stream) {
  dispatch_any_float(a.in.dtype, "residual_forward", [&]<class T>() {
    const Add<T> body{a.out.as<T>(), a.in.as<T>(), a.branch.as<T>(), a.dropout,
                      a.time * a.in.width()};
    const bool vector =
        all_aligned(body.out, body.in, body.branch) && body.per_sample % kElements == 0;
    elementwise(a.in.count(), vector, stream, body);
  });
}

void dropout_backward(const DropoutBackward& a, Stream stream) {
  dispatch_any_float(a.in.dtype, "dropout_backward", [&]<class T>() {
    const Drop<T> body{a.out.as<T>(), a.in.as<T>(), a.dropout, a.time * a.in.width()};
    const bool vector = all_aligned(body.out, body.in) && body.per_sample % kElements == 0;
    elementwise(a.in.count(), vector, stream, body);
  });
}

}  // namespace gpt2train::cuda
