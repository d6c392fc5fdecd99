// What the benchmarks of single ops share: filled tensors, scratch and the rate that is reported.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "gpt2train/core/convert.h"
#include "gpt2train/core/rng.h"
#include "gpt2train/core/tensor_view.h"
#include "kernels/workspace.h"

namespace gpt2train::bench {

class Scratch {
 public:
  explicit Scratch(std::size_t bytes)
      : data_(std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment)),
        bytes_(bytes) {}

  void* data() const { return data_.get(); }
  Workspace workspace() const { return {data(), bytes_}; }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  static constexpr std::size_t kAlignment = 512;
  std::unique_ptr<void, Free> data_;
  std::size_t bytes_;
};

// Uniform in [-1, 1), so that no product meets subnormal numbers.
class Tensor {
 public:
  Tensor(DType dtype, Shape shape)
      : memory_(static_cast<std::size_t>(shape.count()) * size_of(dtype)),
        view_{memory_.data(), dtype, shape} {
    dispatch_float(dtype, "bench", [&]<class T>() {
      for (std::int64_t i = 0; i < view_.count(); ++i) {
        const Philox4 words =
            random_words(1, RandomUse::kSampling, 0, 0, static_cast<std::uint32_t>(i));
        view_.as<T>()[i] = from_float<T>(2.0f * unit_float(words[0]) - 1.0f);
      }
    });
  }
  operator TensorView() const { return view_; }

 private:
  Scratch memory_;
  TensorView view_;
};

inline void report_flops(benchmark::State& state, double flops) {
  state.counters["FLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace gpt2train::bench
