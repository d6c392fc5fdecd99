// What a dry run counts is what a step does.
#include "gpt2train/train/step_work.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

using test::tiny_config;
using test::TinyRun;

struct Sum {
  std::int64_t calls = 0;
  double bytes = 0.0, flops = 0.0;
  bool operator==(const Sum&) const = default;
};
void PrintTo(const Sum& sum, std::ostream* out) {
  *out << sum.calls << " calls, " << sum.bytes << " bytes, " << sum.flops << " FLOPs";
}

std::map<std::string, Sum> sums_of(const StepWork& work, std::int64_t accumulation) {
  std::map<std::string, Sum> sums;
  const auto add = [&](const std::vector<OpCalls>& ops, std::int64_t times) {
    for (const OpCalls& op : ops) {
      Sum& sum = sums[op.name];
      sum.calls += times * op.count;
      sum.bytes += static_cast<double>(times * op.count) * op.work.bytes;
      sum.flops += static_cast<double>(times * op.count) * op.work.flops;
    }
  };
  add(work.first, 1);
  add(work.next, accumulation - 1);
  add(work.update, 1);
  return sums;
}

// As each kernel says when it is run.
std::map<std::string, Sum> profiled_step(const RunConfig& config) {
  class NoWatch final : public Stopwatch {
   public:
    void start(Stream) override {}
    double stop(Stream) override { return 1.0; }
  };
  TinyRun run(config);
  NoWatch watch;
  Profiler profiler(watch);
  Trainer trainer(run.setup());
  trainer.set_profiler(&profiler);
  static_cast<void>(trainer.step());
  std::map<std::string, Sum> sums;
  for (const KernelTime& kernel : profiler.times()) {
    sums[kernel.name] = {kernel.calls, kernel.work.bytes, kernel.work.flops};
  }
  return sums;
}

TEST(StepWork, IsWhatAStepDoesToTheByteAndTheOperation) {
  RunConfig config = tiny_config();
  config.model.dropout = 0.1;
  for (const Recompute level : kRecomputeLevels) {
    for (const std::int64_t accumulation : {1, 5}) {
      SCOPED_TRACE(concat(name_of(level), ", accumulation ", accumulation));
      config.memory.recompute = level;
      config.memory.recompute_layers = 1;
      config.memory.logits = accumulation == 1 ? Logits::kFull : Logits::kChunked;
      config.memory.moments = accumulation == 1 ? Moments::kInt8 : Moments::kFloat32;
      config.training.gradient_accumulation_steps = accumulation;
      const StepWork work = step_work(cpu_kernels(), config, configured_plan(config));
      EXPECT_EQ(sums_of(work, accumulation), profiled_step(config));
    }
  }
}

TEST(StepWork, CountsLayersOfEqualShapeTogether) {
  RunConfig config = tiny_config();
  const std::size_t entries = step_work(cpu_kernels(), config, configured_plan(config)).next.size();
  config.model.n_layer = 20;
  EXPECT_EQ(step_work(cpu_kernels(), config, configured_plan(config)).next.size(), entries);
}

}  // namespace
}  // namespace gpt2train
