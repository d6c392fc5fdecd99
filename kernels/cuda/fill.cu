// Setting and converting flat arrays.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/optimizer.h"

namespace gpt2train::cuda {
namespace {

template <class T>
struct Set {
  T* out;
  float value;

  template <int kCount>
  __device__ void operator()(std::int64_t first) const {
    float x[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = value;
    store(out + first, x);
  }
};

template <class To, class From>
struct Convert {
  To* out;
  const From* in;

  template <int kCount>
  __device__ void operator()(std::int64_t first) const {
    float x[kCount];
    load<Reuse::kOnce>(x, in + first);
    store(out + first, x);
  }
};

}  // namespace

void fill(const Fill& a, Stream stream) {
  dispatch_any_float(a.out.dtype, "fill", [&]<class T>() {
    const Set<T> body{a.out.as<T>(), a.value};
    elementwise(a.out.count(), all_aligned(body.out), stream, body);
  });
}

void cast(const Cast& a, Stream stream) {
  dispatch_any_float(a.in.dtype, "cast", [&]<class From>() {
    dispatch_any_float(a.out.dtype, "cast", [&]<class To>() {
      const Convert<To, From> body{a.out.as<To>(), a.in.as<From>()};
      elementwise(a.in.count(), all_aligned(body.out, body.in), stream, body);
    });
  });
}

}  // namespace gpt2train::cuda
