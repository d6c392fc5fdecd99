// The whole CUDA backend without a GPU: its kernels in the emulator, stand-ins for cuBLASLt and the
// runtime, and the trainer on top, as on a device.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cmath>

#include "gpt2train/train/single_pass.h"
#include "tests/support/tiny_run.h"

extern "C" gpt2train::Backend* gpt2train_make_cuda_backend();

namespace gpt2train::test {
namespace {

using Device = std::unique_ptr<Backend>;

Device emulated_gpu() {
  return Device(gpt2train_make_cuda_backend());
}

struct Curve {
  std::vector<double> losses = {}, norms = {}, loss_scales = {};
  std::vector<float> weights = {};
  EndEvent end = {};
  std::vector<OutOfMemoryEvent> recoveries = {};
  int skipped = 0;
};

Curve train(const RunConfig& config, Device device,
            std::size_t budget = CachingAllocator::kNoBudget) {
  TinyRun run(config, budget, 4000, std::move(device));
  Trainer trainer(run.setup());
  trainer.run();
  Curve curve{.weights = weights_of(trainer.state()),  // a stand-in's memory is the host's
              .end = run.recorder.end.value(),
              .recoveries = run.recorder.out_of_memory};
  for (const StepEvent& step : run.recorder.steps) {
    curve.losses.push_back(step.loss);
    curve.norms.push_back(step.grad_norm);
    curve.loss_scales.push_back(step.loss_scale);
    curve.skipped += step.skipped ? 1 : 0;
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
    config.training.max_iters = 2;
    config.evaluation.eval_iters = 1;
    return config;
  }
};
INSTANTIATE_TEST_SUITE_P(Dtypes, EmulatedTraining,
                         testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16),
                         [](const auto& each) { return std::string(name_of(each.param)); });

TEST_P(EmulatedTraining, FollowsTheCpuWithTheSameDropout) {
  RunConfig on_cpu = config();
  if (on_cpu.dtype == DType::kFloat16) on_cpu.dtype = DType::kFloat32;  // which it has not
  const Curve cpu = train(on_cpu, open_cpu_backend());
  const Curve cuda = train(config(), emulated_gpu());
  const double limit = GetParam() == DType::kFloat32 ? 1e-5 : 5e-3;
  ASSERT_EQ(cuda.losses.size(), cpu.losses.size());
  EXPECT_GT(cpu.losses.front(), 1.0);
  for (std::size_t i = 0; i < cpu.losses.size(); ++i) {
    EXPECT_NEAR(cuda.losses[i], cpu.losses[i], limit) << i;
    EXPECT_NEAR(cuda.norms[i] / cpu.norms[i], 1.0, 10 * limit) << i;
  }
}

TEST_P(EmulatedTraining, MeasuresWhatWasPredicted) {
  for (const std::size_t budget : {CachingAllocator::kNoBudget, std::size_t{22} << 20}) {
    const Curve curve = train(config(), emulated_gpu(), budget);
    const MemoryStats& predicted = curve.end.prediction.stats;
    EXPECT_EQ(curve.end.stats.peak_allocated_bytes, predicted.peak_allocated_bytes);
    EXPECT_EQ(curve.end.stats.peak_reserved_bytes, predicted.peak_reserved_bytes);
  }
}

// The same random bits round on both; a sum that differs in its last bit may turn a few roundings.
TEST(EmulatedNarrowStorage, FollowsTheCpuAndMeasuresWhatWasPredicted) {
  for (const Storage& storage :
       {Storage{DType::kFloat32, Moments::kBFloat16}, kLeanest,
        Storage{DType::kFloat16, Moments::kBFloat16}, Storage{DType::kFloat16, Moments::kInt8},
        Storage{DType::kBFloat16, Moments::kInt8, false}}) {
    SCOPED_TRACE(name_of(storage));
    RunConfig config = with_storage(tiny_config(), storage);
    config.training.batch_size = 2;
    config.training.gradient_accumulation_steps = 1;
    config.training.max_iters = 3;
    config.evaluation.eval_iters = 1;
    config.evaluation.eval_interval = 3;
    const Curve cuda = train(config, emulated_gpu());
    const MemoryStats& predicted = cuda.end.prediction.stats;
    EXPECT_EQ(cuda.end.stats.peak_allocated_bytes, predicted.peak_allocated_bytes);
    EXPECT_EQ(cuda.end.stats.peak_reserved_bytes, predicted.peak_reserved_bytes);
    if (config.dtype == DType::kFloat16) config.dtype = DType::kFloat32;  // for the CPU
    const Curve cpu = train(config, open_cpu_backend());
    ASSERT_EQ(cuda.losses.size(), cpu.losses.size());
    for (std::size_t i = 0; i < cpu.losses.size(); ++i) {
      EXPECT_NEAR(cuda.losses[i], cpu.losses[i], 5e-3) << i;
    }
  }
}

// In memory that cudaHostAlloc gave, which the device's ledger does not have.
TEST(EmulatedOffload, ChangesNoBitAndTakesLessOfTheDevice) {
  struct Case {
    Storage storage;
    Offload offload;
  };
  for (const auto& [storage, offload] : {Case{{DType::kBFloat16}, Offload::kOptimizer},
                                         Case{{.moments = Moments::kInt8}, Offload::kMoments}}) {
    RunConfig config = with_storage(tiny_config(), storage);
    config.model.n_embd = 96;
    config.training.gradient_accumulation_steps = 1;
    config.training.max_iters = 2;
    config.evaluation.eval_iters = 1;
    const Curve expected = train(config, emulated_gpu());
    config.memory.offload = offload;
    const Curve curve = train(config, emulated_gpu());
    EXPECT_EQ(curve.losses, expected.losses);
    EXPECT_EQ(curve.weights, expected.weights);
    const MemoryStats& predicted = curve.end.prediction.stats;
    EXPECT_EQ(curve.end.stats.peak_allocated_bytes, predicted.peak_allocated_bytes);
    EXPECT_EQ(curve.end.stats.peak_reserved_bytes, predicted.peak_reserved_bytes);
    EXPECT_EQ(curve.end.host_bytes, curve.end.prediction.host_bytes);
    EXPECT_GT(curve.end.host_bytes, 0u);
    EXPECT_LT(curve.end.stats.peak_allocated_bytes, expected.end.stats.peak_allocated_bytes);
    EXPECT_EQ(emulator::device_bytes_in_use(), 0u);
  }
}

// What a machine without CUDA predicts.
TEST_P(EmulatedTraining, ScratchAloneIsEnoughToPredict) {
  const Plan plan = configured_plan(config());
  const std::size_t budget = CachingAllocator::kNoBudget;
  const Prediction there = predict(emulated_gpu()->kernels(), config(), plan, budget);
  const Prediction here = predict(cuda_scratch(), config(), plan, budget);
  EXPECT_EQ(here.stats, there.stats);
  EXPECT_NE(here.stats, predict(cpu_kernels(), config(), plan, budget).stats);
}

TEST_P(EmulatedTraining, RecomputationChangesNoBit) {
  RunConfig each = config();
  each.memory.recompute = Recompute::kNone;
  const Curve expected = train(each, emulated_gpu());
  for (const Recompute level : kRecomputeLevels) {
    if (level == Recompute::kNone) continue;
    each.memory.recompute = level;
    const Curve curve = train(each, emulated_gpu());
    EXPECT_EQ(curve.losses, expected.losses) << name_of(level);
    EXPECT_EQ(curve.weights, expected.weights) << name_of(level);
  }
}

// Fifty steps, so that what differs in one has the time to grow.
TEST(SlowEmulatedCurve, FollowsTheCpuForFiftySteps) {
  RunConfig config = tiny_config();
  config.model.n_layer = 1;
  config.training.batch_size = 4;
  config.training.gradient_accumulation_steps = 1;
  config.training.max_iters = 50;
  config.evaluation.eval_interval = 1000;
  config.evaluation.eval_iters = 1;
  config.checkpoint.always_save_checkpoint = false;
  const Curve cpu = train(config, open_cpu_backend());
  const Curve cuda = train(config, emulated_gpu());
  ASSERT_EQ(cuda.losses.size(), 50u);
  EXPECT_LT(cpu.losses.back(), cpu.losses.front() - 0.5);  // it learns
  for (std::size_t i = 0; i < 50; ++i) EXPECT_NEAR(cuda.losses[i], cpu.losses[i], 1e-4) << i;
}

TEST(EmulatedTf32, RoundsTheFactorsOfFloat32ProductsWhereItIsAskedFor) {
  RunConfig config = tiny_config();
  const Curve exact = train(config, emulated_gpu());
  config.tf32 = true;
  const Curve rounded = train(config, emulated_gpu());
  EXPECT_NE(rounded.losses, exact.losses);
  for (std::size_t i = 0; i < exact.losses.size(); ++i) {
    EXPECT_NEAR(rounded.losses[i], exact.losses[i], 5e-3) << i;
  }
}

// Micro-batches are recorded and repeated: nothing that changes from one to the next may have been
// recorded, the numbers of dropout and the loss scale among them.
TEST_P(EmulatedTraining, RepeatsMicroBatchesWithTheSameBits) {
  RunConfig graphs = config();
  graphs.training.max_iters = 3;
  RunConfig launches = graphs;
  launches.cuda_graphs = false;
  const int before = emulator::counts().graph_launches;
  const Curve expected = train(launches, emulated_gpu());
  EXPECT_EQ(emulator::counts().graph_launches, before);
  const Curve curve = train(graphs, emulated_gpu());
  // The first micro-batch and the first that accumulates are launched as they are.
  EXPECT_GE(emulator::counts().graph_launches, before + 2);
  EXPECT_EQ(curve.losses, expected.losses);
  EXPECT_EQ(curve.weights, expected.weights);
}

TEST(EmulatedRanges, NamePhasesAndLayers) {
  RunConfig config = tiny_config();
  config.training.max_iters = 1;
  train(config, emulated_gpu());
  for (const char* name :
       {"step 0", "micro 2", "block 1", "block 1 backward", "head", "evaluation of val"}) {
    EXPECT_TRUE(emulator::counts().ranges.contains(name)) << name;
  }
  EXPECT_EQ(emulator::counts().open_ranges, 0);
}

TEST(EmulatedCudnn, IsRefusedInWordsAndAutoIsNative) {
  RunConfig config = tiny_config();
  config.training.max_iters = 1;
  config.dtype = DType::kBFloat16;
  const Curve native = train(config, emulated_gpu());
  config.attention = Attention::kAuto;
  EXPECT_EQ(train(config, emulated_gpu()).weights, native.weights);
  config.attention = Attention::kCudnn;
  try {
    train(config, emulated_gpu());
    FAIL() << "the emulator has cuDNN";
  } catch (const DeviceError& error) {
    EXPECT_STREQ(error.what(), "attention by cuDNN: this build is without it");
  }
}

// Whose logits are larger than a small segment.
RunConfig larger_config() {
  RunConfig config = tiny_config();
  config.model.vocab_size = 5000;
  config.memory.logits = Logits::kFull;
  config.training.batch_size = 8;
  config.training.gradient_accumulation_steps = 1;
  config.training.max_iters = 1;
  config.evaluation.eval_iters = 1;
  config.memory.recompute = Recompute::kNone;
  return config;
}

// As on the CPU (tests/train/recovery_test.cpp). In a second step it may be a recording that fails.
TEST(SlowEmulatedRecovery, AtEveryAllocationOfAStepEqualsAnUndisturbedRunWithThatSplit) {
  RunConfig config = tiny_config();
  config.model.n_layer = 1;
  config.model.dropout = 0.1;
  config.training.batch_size = 2;
  config.training.gradient_accumulation_steps = 2;
  config.memory.recompute = Recompute::kNone;
  std::uint64_t requests = 0;
  const auto last_step = [&](const RunConfig& each, int before, std::optional<std::uint64_t> fail) {
    TinyRun run(each, CachingAllocator::kNoBudget, 4000, emulated_gpu());
    Trainer trainer(run.setup());
    for (int i = 0; i < before; ++i) trainer.step();
    requests = run.memory.request_count();
    if (fail) run.memory.fail_request_after(*fail);
    const StepResult result = *trainer.step();
    requests = run.memory.request_count() - requests;
    EXPECT_EQ(run.recorder.out_of_memory.size(), fail ? 1u : 0u);
    return std::pair(result.loss, weights_of(trainer.state()));
  };
  RunConfig split = config;
  split.training.batch_size = 1;
  split.training.gradient_accumulation_steps = 4;
  const auto undisturbed = last_step(split, 0, std::nullopt);
  for (const int before : {0, 1}) {
    last_step(config, before, std::nullopt);
    const std::uint64_t count = requests;
    ASSERT_GT(count, 50u);
    const auto expected = before == 0 ? undisturbed : last_step(config, before, 0);
    for (std::uint64_t at = 0; at < count; at += before == 0 ? 1 : 5) {
      ASSERT_EQ(last_step(config, before, at), expected) << at << " after " << before;
    }
  }
}

// The device has less than the budget says: cudaMalloc fails, as beside another process.
TEST(EmulatedRecovery, ADeviceThatRefusesLowersTheMicroBatch) {
  RunConfig config = larger_config();
  config.memory.plan = PlanMode::kOff;
  const Prediction whole =
      predict(cuda_scratch(), config, configured_plan(config), CachingAllocator::kNoBudget);
  emulator::set_device_bytes(whole.stats.peak_reserved_bytes - 1);
  const Curve lowered = train(config, emulated_gpu());
  emulator::set_device_bytes(std::size_t{1} << 30);
  EXPECT_EQ(emulator::device_bytes_in_use(), 0u);
  ASSERT_FALSE(lowered.recoveries.empty());
  EXPECT_LT(lowered.end.plan.micro_batch, 8);

  config.training.gradient_accumulation_steps = lowered.end.plan.accumulation;
  config.training.batch_size = lowered.end.plan.micro_batch;
  config.evaluation.eval_iters = lowered.end.plan.accumulation;
  config.memory.recompute = lowered.end.plan.recompute;
  const Curve undisturbed = train(config, emulated_gpu());
  EXPECT_EQ(lowered.losses, undisturbed.losses);
  EXPECT_EQ(lowered.weights, undisturbed.weights);
}

TEST(EmulatedExpandable, SegmentsGrowAndGiveTheSameNumbers) {
  RunConfig config = larger_config();
  const Curve fixed = train(config, emulated_gpu());
  config.memory.segments = Segments::kExpandable;
  const Curve expandable = train(config, emulated_gpu());
  EXPECT_EQ(expandable.losses, fixed.losses);
  EXPECT_EQ(expandable.weights, fixed.weights);
  const MemoryStats& predicted = expandable.end.prediction.stats;
  EXPECT_EQ(expandable.end.stats.peak_reserved_bytes, predicted.peak_reserved_bytes);
  EXPECT_LT(expandable.end.stats.peak_reserved_bytes, fixed.end.stats.peak_reserved_bytes);
  EXPECT_EQ(emulator::device_bytes_in_use(), 0u);
}

// 65,536 times the gradients of a model this small overflow, until the scale has come down.
RunConfig overflowing_config() {
  RunConfig config = tiny_config();
  config.dtype = DType::kFloat16;
  config.training.batch_size = 1;
  config.training.gradient_accumulation_steps = 1;
  config.training.max_iters = 6;
  config.model.vocab_size = 5;
  config.model.block_size = 1;
  return config;
}

TEST(EmulatedFloat16, OverflowSkipsTheUpdateAndLowersTheLossScale) {
  const Curve curve = train(overflowing_config(), emulated_gpu());
  ASSERT_GT(curve.skipped, 0);
  EXPECT_EQ(curve.loss_scales.front(), 65536.0);
  EXPECT_EQ(curve.loss_scales[1], 32768.0);
  EXPECT_LT(curve.skipped, 6);
}

TEST(EmulatedFloat16, RecordsAgainWhenTheLossScaleChanges) {
  RunConfig config = overflowing_config();
  const Curve graphs = train(config, emulated_gpu());
  config.cuda_graphs = false;
  const Curve launches = train(config, emulated_gpu());
  EXPECT_EQ(graphs.loss_scales, launches.loss_scales);
  EXPECT_EQ(graphs.losses, launches.losses);
  EXPECT_EQ(graphs.weights, launches.weights);
}

TEST(EmulatedFloat16, ResumesWithItsLossScale) {
  RunConfig config = overflowing_config();
  const Curve whole = train(config, emulated_gpu());
  TempDir shared;
  config.out_dir = shared.path();
  config.training.max_iters = 3;
  train(config, emulated_gpu());
  config.init_from = "resume";
  config.training.max_iters = 6;
  const Curve rest = train(config, emulated_gpu());
  ASSERT_EQ(rest.losses.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(rest.loss_scales[i], whole.loss_scales[i + 3]);
    EXPECT_EQ(rest.losses[i], whole.losses[i + 3]);
  }
  EXPECT_EQ(rest.weights, whole.weights);
}

TEST(EmulatedCheckpoint, MovesToTheCpuAndBack) {
  RunConfig config = tiny_config();
  config.training.max_iters = 2;
  const Curve whole = [&] {
    RunConfig longer = config;
    longer.training.max_iters = 4;
    return train(longer, open_cpu_backend());
  }();
  TempDir shared;
  config.out_dir = shared.path();
  train(config, emulated_gpu());
  config.init_from = "resume";
  config.training.max_iters = 3;
  train(config, open_cpu_backend());
  config.training.max_iters = 4;
  const Curve last = train(config, emulated_gpu());
  ASSERT_EQ(last.losses.size(), 1u);
  EXPECT_NEAR(last.losses.back(), whole.losses.back(), 1e-5);
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
  const Device gpu = emulated_gpu();
  SinglePass exact(cpu_kernels(), host, config, DType::kFloat32);
  exact.state().initialise(exact.exec(), 3);
  const float expected = exact.loss_and_gradients(2, inputs, targets, scale);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    SinglePass pass(gpu->kernels(), gpu->upstream(), config, dtype, gpu->stream());
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
