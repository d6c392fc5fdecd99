// A run whose plans are in an order that was measured: another split of the same mathematics.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

using test::moments_of;
using test::tiny_config;
using test::TinyRun;
using test::weights_of;

constexpr Plan kFastest = {
    .micro_batch = 2, .accumulation = 6, .recompute = Recompute::kBlock, .block_layers = 1};

// All of them, this one first.
std::vector<Plan> plans_with(const RunConfig& config, const Plan& fastest) {
  std::vector<Plan> plans = candidate_plans(config);
  const auto found = std::find(plans.begin(), plans.end(), fastest);
  EXPECT_NE(found, plans.end());
  std::rotate(plans.begin(), found, found + 1);
  return plans;
}

RunConfig dropping_config() {
  RunConfig config = tiny_config();
  config.model.dropout = 0.1;
  config.training.max_iters = 8;
  return config;
}

TEST(TunedPlans, TheFirstThatFitsIsTakenAndTheLossesStay) {
  const RunConfig config = dropping_config();
  TinyRun plain(config);
  Trainer(plain.setup()).run();
  ASSERT_FALSE(plain.recorder.plans[0].tuned);

  TinyRun tuned(config);
  TrainerSetup setup = tuned.setup();
  setup.plans = plans_with(config, kFastest);
  Trainer trainer(setup);
  trainer.run();
  EXPECT_TRUE(tuned.recorder.plans[0].tuned);
  EXPECT_FALSE(tuned.recorder.plans[0].lowered);
  EXPECT_EQ(tuned.recorder.plans[0].plan, kFastest);
  EXPECT_EQ(trainer.plan(), kFastest);
  EXPECT_TRUE(tuned.recorder.grown.empty());
  ASSERT_EQ(tuned.recorder.steps.size(), plain.recorder.steps.size());
  for (std::size_t i = 0; i < plain.recorder.steps.size(); ++i) {
    EXPECT_NEAR(tuned.recorder.steps[i].loss, plain.recorder.steps[i].loss, 1e-4) << i;
  }
  EXPECT_EQ(tuned.recorder.end->prediction.stats.peak_reserved_bytes,
            tuned.memory.stats().peak_reserved_bytes);
}

TEST(TunedPlans, WhatDoesNotFitIsPassedOver) {
  RunConfig config = tiny_config();
  config.model.block_size = 128;
  config.model.n_embd = 64;
  config.training.batch_size = 24;
  config.training.gradient_accumulation_steps = 1;
  config.memory.recompute = Recompute::kNone;
  const std::vector<Plan> plans = candidate_plans(config);
  const Prediction full = predict(cpu_kernels(), config, plans[0], CachingAllocator::kNoBudget);
  TinyRun run(config, full.stats.peak_reserved_bytes - 1);
  TrainerSetup setup = run.setup();
  setup.plans = {plans[0], plans[3], plans[1], plans[2]};
  EXPECT_EQ(Trainer(setup).plan(), plans[3]);
}

TEST(TunedPlans, DecideWhereARunThatRanOutGoesOnAndWhatItGrowsTo) {
  RunConfig config = tiny_config();
  config.memory.recompute = Recompute::kNone;
  config.training.max_iters = 60;
  config.evaluation.eval_interval = 1000;
  const auto of = [](std::int64_t micro) {
    return Plan{.micro_batch = micro, .accumulation = 12 / micro};
  };
  TinyRun run(config);
  TrainerSetup setup = run.setup();
  setup.plans = {of(3), of(1), of(4), of(2)};
  setup.budget_now = [] { return CachingAllocator::kNoBudget; };
  run.memory.fail_request_after(300);
  Trainer trainer(setup);
  trainer.run();
  ASSERT_EQ(run.recorder.out_of_memory.size(), 1u);
  EXPECT_EQ(run.recorder.out_of_memory[0].from, of(3));
  EXPECT_EQ(run.recorder.out_of_memory[0].to, of(1)) << "by relative cost it would be 2";
  ASSERT_EQ(run.recorder.grown.size(), 1u);
  EXPECT_EQ(run.recorder.grown[0].to, of(3)) << "by relative cost it would be 4";
}

// The split that was in force goes on, whatever is the fastest by now, and so do the bits.
TEST(TunedPlans, AResumedRunKeepsItsSplit) {
  RunConfig config = dropping_config();
  TinyRun whole(config);
  TrainerSetup whole_setup = whole.setup();
  whole_setup.plans = plans_with(config, kFastest);
  Trainer uninterrupted(whole_setup);
  uninterrupted.run();

  config.training.max_iters = 4;
  TinyRun first(config);
  TrainerSetup first_setup = first.setup();
  first_setup.plans = plans_with(config, kFastest);
  Trainer(first_setup).run();

  config.training.max_iters = 40;
  config.init_from = "resume";
  config.out_dir = first.directory.path();
  TinyRun second(config);
  TrainerSetup setup = second.setup();
  setup.plans = plans_with(config, kFastest);
  std::swap(setup.plans[0], setup.plans[1]);
  ASSERT_EQ(setup.plans[0].micro_batch, 4);
  setup.budget_now = [] { return CachingAllocator::kNoBudget; };
  Trainer resumed(setup);
  EXPECT_EQ(resumed.plan(), kFastest);
  resumed.run();
  EXPECT_EQ(resumed.plan(), kFastest);
  EXPECT_TRUE(second.recorder.grown.empty()) << "a split that goes on is no lowered one";
  ASSERT_GE(second.recorder.steps.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(second.recorder.steps[i].loss, whole.recorder.steps[i + 4].loss) << i;
  }
}

}  // namespace
}  // namespace gpt2train
