// The whole trainer on the emulated CUDA kernels, with the CPU's matrix products in cuBLASLt's
// place: the seams between model, ops, allocator and kernels, and the planner's promise.
#include <gtest/gtest.h>

#include <cmath>

#include "gpt2train/train/single_pass.h"
#include "kernels/cuda/cuda_kernels.h"
#include "tests/support/tiny_run.h"

namespace gpt2train::test {
namespace {

KernelTable emulated_kernels() {
  const KernelTable& cpu = cpu_kernels();
  KernelTable table = cuda::own_kernels();
  table.name = "emulated cuda";
  table.matmul = cpu.matmul;
  table.matmul_workspace = cpu.matmul_workspace;
  table.upload = cpu.upload;
  table.download = cpu.download;
  return table;
}

struct Curve {
  std::vector<double> losses = {}, norms = {};
  std::vector<float> weights = {};
  EndEvent end = {};
};

Curve train(const RunConfig& config, const KernelTable& kernels,
            std::size_t budget = CachingAllocator::kNoBudget) {
  TinyRun run(config, budget);
  run.kernels = kernels;
  Trainer trainer(run.setup());
  trainer.run();
  Curve curve{.weights = weights_of(trainer.state()), .end = run.recorder.end.value()};
  for (const StepEvent& step : run.recorder.steps) {
    curve.losses.push_back(step.loss);
    curve.norms.push_back(step.grad_norm);
  }
  return curve;
}

class EmulatedTraining : public testing::TestWithParam<DType> {
 protected:
  RunConfig config() const {
    RunConfig config = tiny_config();
    config.dtype = GetParam();
    config.model.n_embd = 32;
    config.model.block_size = 24;
    config.model.dropout = 0.1;
    config.training.batch_size = 2;
    config.training.gradient_accumulation_steps = 2;
    config.training.max_iters = 3;
    config.evaluation.eval_iters = 1;
    return config;
  }
};
INSTANTIATE_TEST_SUITE_P(Dtypes, EmulatedTraining,
                         testing::Values(DType::kFloat32, DType::kBFloat16),
                         [](const auto& each) { return std::string(name_of(each.param)); });

TEST_P(EmulatedTraining, FollowsTheCpuWithTheSameDropout) {
  const Curve cpu = train(config(), cpu_kernels());
  const Curve cuda = train(config(), emulated_kernels());
  const double limit = GetParam() == DType::kFloat32 ? 1e-5 : 5e-3;
  ASSERT_EQ(cuda.losses.size(), cpu.losses.size());
  for (std::size_t i = 0; i < cpu.losses.size(); ++i) {
    EXPECT_NEAR(cuda.losses[i], cpu.losses[i], limit) << i;
    EXPECT_NEAR(cuda.norms[i] / cpu.norms[i], 1.0, 10 * limit) << i;
  }
}

TEST_P(EmulatedTraining, MeasuresWhatWasPredicted) {
  for (const std::size_t budget : {CachingAllocator::kNoBudget, std::size_t{4} << 20}) {
    const Curve curve = train(config(), emulated_kernels(), budget);
    const MemoryStats& predicted = curve.end.prediction.stats;
    EXPECT_EQ(curve.end.stats.peak_allocated_bytes, predicted.peak_allocated_bytes);
    EXPECT_EQ(curve.end.stats.peak_reserved_bytes, predicted.peak_reserved_bytes);
  }
}

TEST_P(EmulatedTraining, RecomputationChangesNoBit) {
  RunConfig each = config();
  each.memory.recompute = Recompute::kNone;
  const Curve expected = train(each, emulated_kernels());
  for (const Recompute level : kRecomputeLevels) {
    each.memory.recompute = level;
    const Curve curve = train(each, emulated_kernels());
    EXPECT_EQ(curve.losses, expected.losses) << name_of(level);
    EXPECT_EQ(curve.weights, expected.weights) << name_of(level);
  }
}

TEST(EmulatedPass, GradientsAreThoseOfTheCpu) {
  const ModelConfig config{.n_layer = 2,
                           .n_head = 2,
                           .n_embd = 48,
                           .block_size = 20,
                           .vocab_size = 61,
                           .bias = true,
                           .dropout = 0.0,
                           .gelu = GeluForm::kErf};
  std::vector<std::int32_t> inputs, targets;
  for (std::int32_t i = 0; i < 2 * 20; ++i) {
    inputs.push_back(i * 7 % 61);
    targets.push_back(i * 5 % 61);
  }
  const float scale = 1.0f / static_cast<float>(inputs.size());
  HostUpstream host;
  const KernelTable emulated = emulated_kernels();
  SinglePass exact(cpu_kernels(), host, config, DType::kFloat32);
  exact.state().initialise(exact.exec(), 3);
  const float expected = exact.loss_and_gradients(2, inputs, targets, scale);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    SinglePass pass(emulated, host, config, dtype);
    pass.state().initialise(pass.exec(), 3);
    const double limit = dtype == DType::kFloat32 ? 1e-5 : 3e-2;
    EXPECT_NEAR(pass.loss_and_gradients(2, inputs, targets, scale), expected, limit);
    for (const Parameter& parameter : exact.state().layout().list()) {
      const std::vector<float> a = exact.gradient(parameter), b = pass.gradient(parameter);
      double difference = 0.0, size = 0.0;
      for (std::size_t i = 0; i < a.size(); ++i) {
        difference += std::pow(double{b[i]} - double{a[i]}, 2.0);
        size += std::pow(double{a[i]}, 2.0);
      }
      EXPECT_LE(std::sqrt(difference / size), limit) << parameter.name << ' ' << name_of(dtype);
    }
  }
}

}  // namespace
}  // namespace gpt2train::test
