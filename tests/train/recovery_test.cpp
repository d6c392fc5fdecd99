// Running out of memory anywhere in a step or an evaluation: same losses, same weights, nothing
// lost.
#include <gtest/gtest.h>

#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

using test::Storage;
using test::tiny_config;
using test::TinyRun;
using test::weights_of;
using test::with_storage;

struct Outcome {
  float loss = 0.0f;
  float norm = 0.0f;
  std::vector<float> weights;
  Plan plan;
  bool operator==(const Outcome&) const = default;
};

// Two steps; the request `fail_at` requests into the first fails when given.
Outcome two_steps(const RunConfig& config, std::optional<std::uint64_t> fail_at,
                  std::size_t* recoveries = nullptr) {
  TinyRun run(config);
  Trainer trainer(run.setup());
  const std::size_t before = run.memory.stats().allocated_bytes;
  const std::size_t blocks = run.memory.live_block_count();
  if (fail_at) run.memory.fail_request_after(*fail_at);
  static_cast<void>(trainer.step());
  const StepResult result = *trainer.step();
  EXPECT_EQ(run.memory.stats().allocated_bytes, before) << "leaked after a failure at " << *fail_at;
  EXPECT_EQ(run.memory.live_block_count(), blocks);
  if (recoveries != nullptr) *recoveries = run.recorder.out_of_memory.size();
  return {result.loss, result.norm, weights_of(trainer.state()), trainer.plan()};
}

RunConfig with_split(RunConfig config, const Plan& plan) {
  config.training.batch_size = plan.micro_batch;
  config.training.gradient_accumulation_steps = plan.accumulation;
  return config;
}

class Recovery : public testing::TestWithParam<Storage> {};

TEST_P(Recovery, AtEveryAllocationOfAStepEqualsAnUndisturbedRunWithThatSplit) {
  RunConfig config = with_storage(tiny_config(), GetParam());
  config.model.dropout = 0.1;
  config.memory.recompute = Recompute::kNone;

  std::uint64_t requests = 0;
  {
    TinyRun run(config);
    Trainer trainer(run.setup());
    const std::uint64_t before = run.memory.request_count();
    static_cast<void>(trainer.step());
    requests = run.memory.request_count() - before;
  }
  ASSERT_GT(requests, 100u);

  std::optional<Outcome> undisturbed;
  for (std::uint64_t at = 0; at < requests; ++at) {
    SCOPED_TRACE(concat("failure at request ", at, " of ", requests));
    std::size_t recoveries = 0;
    const Outcome outcome = two_steps(config, at, &recoveries);
    ASSERT_EQ(recoveries, 1u);
    ASSERT_LT(outcome.plan.micro_batch, 4);
    if (!undisturbed || !(undisturbed->plan == outcome.plan)) {
      undisturbed = two_steps(with_split(config, outcome.plan), std::nullopt);
    }
    ASSERT_EQ(outcome, *undisturbed);
  }
}

TEST_P(Recovery, AtEveryAllocationOfAnEvaluationGivesTheSameLosses) {
  RunConfig config = with_storage(tiny_config(), GetParam());
  config.memory.recompute = Recompute::kNone;
  const auto evaluate = [&](std::optional<std::uint64_t> fail_at, Plan* plan) {
    TinyRun run(config);
    Trainer trainer(run.setup());
    const std::uint64_t before = run.memory.request_count();
    if (fail_at) run.memory.fail_request_after(*fail_at);
    const EvalEvent event = *trainer.evaluate();
    *plan = trainer.plan();
    return std::tuple(event.train_loss, event.val_loss, run.memory.request_count() - before);
  };
  Plan plan;
  const auto [train, val, requests] = evaluate(std::nullopt, &plan);
  for (std::uint64_t at = 0; at < requests; ++at) {
    SCOPED_TRACE(concat("failure at request ", at));
    const auto [train_again, val_again, ignored] = evaluate(at, &plan);
    ASSERT_LT(plan.micro_batch, 4);
    const double tolerance =
        GetParam().dtype == DType::kFloat32 ? 1e-5 : 1e-3;  // another order of sums
    ASSERT_NEAR(train_again, train, tolerance);
    ASSERT_NEAR(val_again, val, tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Recovery,
                         testing::Values(Storage{DType::kFloat32}, Storage{DType::kBFloat16},
                                         Storage{DType::kBFloat16, Moments::kInt8, false,
                                                 Offload::kOptimizer}),
                         [](const auto& param_info) { return name_of(param_info.param); });

// Splits of one step differ by the order of fp32 sums only: same samples, same dropout masks.
TEST(Splits, OfTheSameStepAgree) {
  RunConfig config = tiny_config();
  config.model.dropout = 0.2;
  config.memory.recompute = Recompute::kNone;
  const Outcome whole = two_steps(with_split(config, {.micro_batch = 12, .accumulation = 1}), {});
  for (const std::int64_t micro : {1, 2, 3, 4, 6}) {
    const Outcome split =
        two_steps(with_split(config, {.micro_batch = micro, .accumulation = 12 / micro}), {});
    EXPECT_NEAR(split.loss, whole.loss, 2e-6);
    EXPECT_NEAR(split.norm, whole.norm, 1e-5);
  }
}

TEST(Recovery, LowersUntilTheBudgetHolds) {
  RunConfig config = tiny_config();
  config.model.block_size = 128;
  config.model.n_embd = 64;
  config.training.batch_size = 48;
  config.training.gradient_accumulation_steps = 1;
  config.memory.recompute = Recompute::kNone;
  config.memory.plan = PlanMode::kOff;
  config.checkpoint.always_save_checkpoint = false;
  const Prediction full =
      predict(cpu_kernels(), config, configured_plan(config), CachingAllocator::kNoBudget);

  TinyRun run(config, full.stats.peak_reserved_bytes / 2);
  Trainer trainer(run.setup());
  trainer.run();
  ASSERT_FALSE(run.recorder.out_of_memory.empty());
  const OutOfMemoryEvent& event = run.recorder.out_of_memory.front();
  EXPECT_FALSE(event.facts.tensor.empty());
  EXPECT_EQ(event.from.micro_batch, 48);
  EXPECT_LT(event.to.micro_batch, 48);
  EXPECT_EQ(event.to.micro_batch * event.to.accumulation, 48);
  EXPECT_EQ(run.recorder.steps.size(), 4u);
  EXPECT_EQ(run.recorder.end->prediction.stats.peak_allocated_bytes,
            run.memory.stats().peak_allocated_bytes);
  EXPECT_EQ(run.recorder.end->prediction.stats.peak_reserved_bytes,
            run.memory.stats().peak_reserved_bytes);
}

// Lowered by a refusal that passes: the plan comes back, and the losses are those of a run that
// never changed, but for the order of fp32 sums.
TEST(Growth, GoesBackToTheFasterPlanWhereMemoryIsFreeAgain) {
  RunConfig config = tiny_config();
  config.memory.recompute = Recompute::kNone;
  config.training.max_iters = 60;
  config.evaluation.eval_interval = 1000;
  TinyRun whole(config);
  Trainer(whole.setup()).run();

  for (const bool grows : {true, false}) {
    config.memory.grow = grows;
    TinyRun run(config);
    TrainerSetup setup = run.setup();
    setup.budget_now = [] { return CachingAllocator::kNoBudget; };
    run.memory.fail_request_after(300);
    Trainer trainer(setup);
    trainer.run();
    ASSERT_EQ(run.recorder.out_of_memory.size(), 1u);
    ASSERT_EQ(run.recorder.grown.size(), grows ? 1u : 0u);
    EXPECT_EQ(trainer.plan().micro_batch == 4, grows);
    ASSERT_EQ(run.recorder.steps.size(), whole.recorder.steps.size());
    for (std::size_t i = 0; i < run.recorder.steps.size(); ++i) {
      EXPECT_NEAR(run.recorder.steps[i].loss, whole.recorder.steps[i].loss, 1e-4) << i;
    }
    if (!grows) continue;
    EXPECT_EQ(run.recorder.grown[0].to.micro_batch, 4);
    EXPECT_EQ(run.recorder.end->prediction.stats.peak_reserved_bytes,
              run.memory.stats().peak_reserved_bytes);
    EXPECT_EQ(run.recorder.end->prediction.stats.peak_allocated_bytes,
              run.memory.stats().peak_allocated_bytes);
  }
}

TEST(Growth, StaysWhereTheBudgetIsWhatItWas) {
  RunConfig config = tiny_config();
  config.model.block_size = 128;
  config.model.n_embd = 64;
  config.training.batch_size = 24;
  config.training.gradient_accumulation_steps = 1;
  config.training.max_iters = 25;
  config.evaluation.eval_interval = 1000;
  config.memory.recompute = Recompute::kNone;
  const Prediction full =
      predict(cpu_kernels(), config, configured_plan(config), CachingAllocator::kNoBudget);
  const std::size_t budget = full.stats.peak_reserved_bytes - 1;
  TinyRun run(config, budget);
  TrainerSetup setup = run.setup();
  setup.budget_now = [budget] { return budget; };
  Trainer trainer(setup);
  trainer.run();
  EXPECT_TRUE(run.recorder.plans.front().lowered);
  EXPECT_TRUE(run.recorder.grown.empty());
}

TEST(Recovery, EndsWithAdviceWhereMicroBatchOneDoesNotFit) {
  for (const PlanMode mode : {PlanMode::kAuto, PlanMode::kOff}) {
    RunConfig config = tiny_config();
    config.model.block_size = 256;
    config.model.n_embd = 128;
    config.memory.plan = mode;
    TinyRun run(config, 4u << 20);
    try {
      Trainer trainer(run.setup());
      trainer.run();
      FAIL() << "ran in 4 MiB";
    } catch (const OutOfMemoryError& error) {
      EXPECT_NE(std::string(error.what()).find("the smallest memory.limit that works here is"),
                std::string::npos)
          << error.what();
      EXPECT_NE(std::string(error.what()).find("--n_embd="), std::string::npos) << error.what();
    }
    EXPECT_EQ(run.memory.live_block_count(), 0u);
  }
}

}  // namespace
}  // namespace gpt2train
