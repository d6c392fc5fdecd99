#include "gpt2train/ops/profiler.h"

#include <gtest/gtest.h>

#include "gpt2train/memory/tensor.h"
#include "gpt2train/ops/backend.h"
#include "gpt2train/ops/ops.h"

namespace gpt2train {
namespace {

// Each interval is a second longer than the one before.
class CountingWatch final : public Stopwatch {
 public:
  void start(Stream) override { ++started; }
  double stop(Stream) override { return ++seconds_; }
  int started = 0;

 private:
  double seconds_ = 0.0;
};

TEST(Profiler, AddsUpTheCallsOfEachKernelLongestFirst) {
  CountingWatch watch;
  Profiler profiler(watch);
  int calls = 0;
  profiler.time("a", {.bytes = 10.0}, {}, [&] { ++calls; });
  profiler.time("b", {.bytes = 1.0}, {}, [&] { ++calls; });
  profiler.time("a", {.bytes = 10.0, .flops = 5.0}, {}, [&] { ++calls; });
  profiler.time("b", {}, {}, [&] { ++calls; });
  EXPECT_EQ(calls, 4);
  const std::vector<KernelTime> times = profiler.times();
  ASSERT_EQ(times.size(), 2u);
  EXPECT_EQ(times[0].name, "b");
  EXPECT_EQ(times[0].seconds, 2.0 + 4.0);
  EXPECT_EQ(times[1].name, "a");
  EXPECT_EQ(times[1].calls, 2);
  EXPECT_EQ(times[1].work.bytes, 20.0);
  EXPECT_EQ(times[1].work.flops, 5.0);
}

TEST(Profiler, SeesTheKernelsOfOpsButNotOfADryRun) {
  const std::unique_ptr<Backend> cpu = open_cpu_backend();
  CachingAllocator memory(cpu->upstream(), CachingAllocator::kNoBudget);
  const auto matrix = [&](const char* name, Shape shape) {
    return Tensor(memory, Tag::kWorkspace, name, DType::kFloat32, shape);
  };
  const Tensor a = matrix("a", {4, 5}), b = matrix("b", {6, 5}), out = matrix("out", {4, 6});
  const auto times_of = [&](Compute compute) {
    CountingWatch watch;
    Profiler profiler(watch);
    Exec exec(cpu->kernels(), memory, compute);
    exec.set_profiler(&profiler);
    ops::fill(exec, {.out = a, .value = 1.0f});
    ops::fill(exec, {.out = b, .value = 1.0f});
    ops::matmul(exec, {.out = out, .a = a, .b = b, .transpose_b = true});
    return profiler.times();
  };
  const std::vector<KernelTime> times = times_of(Compute::kRun);
  ASSERT_EQ(times.size(), 2u);
  EXPECT_EQ(times[0].name, "fill");
  EXPECT_EQ(times[0].work.bytes, 4.0 * (20 + 30));
  EXPECT_EQ(times[1].name, "matmul");
  EXPECT_EQ(times[1].work.flops, 2.0 * 4 * 5 * 6);
  EXPECT_EQ(times[1].work.bytes, 4.0 * (20 + 30 + 24));
  EXPECT_TRUE(times_of(Compute::kDryRun).empty());
}

}  // namespace
}  // namespace gpt2train
