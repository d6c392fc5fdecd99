// The search for the fastest plan, on a machine whose rates the test gives.
#include "src/cli/tune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace gpt2train {
namespace {

const Machine kMachine = {.backend = "cpu", .device = "a processor"};
constexpr double kLong = 1e9;

RunConfig small_config() {
  RunConfig config;
  config.dtype = DType::kFloat32;
  config.model = {.n_layer = 2, .n_head = 4, .n_embd = 64, .block_size = 64, .vocab_size = 300};
  config.training.batch_size = 8;
  config.training.gradient_accumulation_steps = 1;
  config.memory.logits_rows = 32;
  return config;
}

// Tokens a second of a plan, on a machine that likes micro-batches of 4.
double rate_of(const Plan& plan) {
  const double distance = static_cast<double>(std::abs(plan.micro_batch - 4));
  return 1000.0 - 50.0 * distance - 100.0 * static_cast<double>(plan.recompute);
}

class Laboratory {
 public:
  std::optional<BenchPoint> measure(const Plan& plan) {
    measured.push_back(plan);
    if (interrupt_at && measured.size() >= *interrupt_at) return std::nullopt;
    BenchPoint point{.settings = bench_settings("1", kMachine.backend, kMachine.device, config,
                                                plan, {.accumulation = 1}, {}),
                     .date = "2026-11-21T12:00:00Z",
                     .dtype = config.dtype,
                     .plan = plan,
                     .status = BenchPoint::Status::kMeasured,
                     .update_seconds = 1e-4,
                     .peak_flops_per_second = 1e9};
    if (plan.micro_batch > most_that_runs) {
      point.status = BenchPoint::Status::kOutOfMemory;
      point.failure = "fc (8, 64, 256)";
      return point;
    }
    const double tokens = static_cast<double>(plan.micro_batch * config.model.block_size);
    const double accumulation = static_cast<double>(plan.accumulation);
    const double step = accumulation * tokens / rate_of(plan);
    point.step_seconds.assign(3, (step - 1e-4) / accumulation + 1e-4);
    point.tokens_per_second =
        tokens_per_second(config, plan, 1, point.step_seconds, point.update_seconds);
    kept.push_back(point);
    return point;
  }
  Tuning tune(double most_seconds = kLong) {
    measured.clear();
    return gpt2train::tune(
        cpu_kernels(), config, budget, kMachine, kept,
        [this](const Plan& plan) { return measure(plan); }, most_seconds);
  }

  RunConfig config = small_config();
  std::size_t budget = CachingAllocator::kNoBudget;
  std::int64_t most_that_runs = 1000;
  std::optional<std::size_t> interrupt_at;
  std::vector<Plan> measured;
  std::vector<BenchPoint> kept;
};

TEST(PlansToTry, AreTheFirstItsHalvesAndTheLargestOfOtherLevels) {
  const RunConfig config = small_config();
  const std::vector<Plan> plans = plans_to_try(candidate_plans(config));
  std::vector<std::pair<std::int64_t, Recompute>> names;
  for (const Plan& plan : plans) names.push_back({plan.micro_batch, plan.recompute});
  EXPECT_EQ(names, (std::vector<std::pair<std::int64_t, Recompute>>{{8, Recompute::kNone},
                                                                    {4, Recompute::kNone},
                                                                    {2, Recompute::kNone},
                                                                    {8, Recompute::kGelu},
                                                                    {8, Recompute::kGeluLayerNorm},
                                                                    {8, Recompute::kBlock}}));
  EXPECT_EQ(plans.back().block_layers, 1) << "of a level with several, the least";
  EXPECT_TRUE(plans_to_try({}).empty());
  EXPECT_EQ(plans_to_try({plans[0]}), std::vector<Plan>{plans[0]});
}

TEST(Tune, PutsTheFastestFirstAndKeepsEveryPlan) {
  Laboratory lab;
  const Tuning tuning = lab.tune();
  EXPECT_EQ(lab.measured, plans_to_try(candidate_plans(lab.config)));
  ASSERT_EQ(tuning.trials.size(), lab.measured.size());
  EXPECT_NEAR(tuning.trials[1].speed->tokens_per_second, 1000.0, 1e-6);
  ASSERT_FALSE(tuning.plans.empty());
  EXPECT_EQ(tuning.plans[0],
            (Plan{.micro_batch = 4, .accumulation = 2, .recompute = Recompute::kNone}));
  const std::vector<Plan> all = candidate_plans(lab.config);
  EXPECT_TRUE(
      std::is_permutation(tuning.plans.begin(), tuning.plans.end(), all.begin(), all.end()));
  // What was measured is in the order of its figures.
  const auto place = [&](const Plan& plan) {
    return std::find(tuning.plans.begin(), tuning.plans.end(), plan) - tuning.plans.begin();
  };
  for (const Plan& a : lab.measured) {
    for (const Plan& b : lab.measured) {
      if (rate_of(a) > rate_of(b)) {
        EXPECT_LT(place(a), place(b));
      }
    }
  }
}

TEST(Tune, MeasuresNothingTwice) {
  Laboratory lab;
  const Tuning first = lab.tune();
  ASSERT_EQ(lab.measured.size(), 6u);
  const Tuning second = lab.tune();
  EXPECT_TRUE(lab.measured.empty());
  EXPECT_EQ(second.plans, first.plans);
  ASSERT_EQ(second.trials.size(), 6u);
  EXPECT_TRUE(second.trials[0].known);
}

TEST(Tune, TriesOnlyWhatFits) {
  Laboratory lab;
  const std::vector<Plan> all = candidate_plans(lab.config);
  const Prediction largest =
      predict(cpu_kernels(), lab.config, all[0], CachingAllocator::kNoBudget);
  lab.budget = largest.stats.peak_reserved_bytes - 1;
  const Tuning tuning = lab.tune();
  ASSERT_FALSE(lab.measured.empty());
  for (const Plan& plan : lab.measured) {
    EXPECT_TRUE(predict(cpu_kernels(), lab.config, plan, lab.budget).fits());
  }
  EXPECT_TRUE(predict(cpu_kernels(), lab.config, tuning.plans[0], lab.budget).fits() ||
              !(tuning.plans[0] == all[0]));
  lab.budget = 1000;
  EXPECT_TRUE(lab.tune().plans.empty());
  EXPECT_TRUE(lab.measured.empty());
}

TEST(Tune, GoesOnWhereATrialRunsOutOfMemory) {
  Laboratory lab;
  lab.most_that_runs = 3;
  const Tuning tuning = lab.tune();
  ASSERT_EQ(tuning.trials.size(), 6u);
  EXPECT_FALSE(tuning.trials[0].speed);
  EXPECT_EQ(tuning.trials[0].failure, "fc (8, 64, 256)");
  EXPECT_EQ(tuning.plans[0].micro_batch, 2) << "the only one that ran";
  lab.kept.clear();
  lab.most_that_runs = 0;
  EXPECT_TRUE(lab.tune().plans.empty()) << "nothing is known";
}

TEST(Tune, EndsAtOnceWhenInterrupted) {
  Laboratory lab;
  lab.interrupt_at = 2;
  const Tuning tuning = lab.tune();
  EXPECT_TRUE(tuning.interrupted);
  EXPECT_TRUE(tuning.plans.empty());
  EXPECT_EQ(lab.measured.size(), 2u);
}

TEST(Tune, TriesOneAtLeastWhateverTheTime) {
  Laboratory lab;
  const Tuning tuning = lab.tune(0.0);
  EXPECT_EQ(lab.measured.size(), 1u);
  EXPECT_EQ(tuning.plans[0], lab.measured[0]) << "what fits and was not tried comes later";
  EXPECT_EQ(tuning.plans.size(), candidate_plans(lab.config).size());
}

TEST(Tune, PrefersTheLeastRecomputationOfPlansThatAreAlike) {
  Laboratory lab;
  static_cast<void>(lab.tune());
  for (BenchPoint& point : lab.kept) {
    // All as fast, but for half a percent that is noise.
    const double more = point.plan.recompute == Recompute::kBlock ? 0.995 : 1.0;
    const double tokens = static_cast<double>(point.plan.micro_batch * lab.config.model.block_size);
    point.step_seconds.assign(3, 1e-3 * more * tokens);
    point.update_seconds = 1e-9;
  }
  const Tuning tuning = lab.tune();
  EXPECT_TRUE(lab.measured.empty());
  EXPECT_EQ(tuning.plans[0], candidate_plans(lab.config)[0]);
}

TEST(Tune, OfAResumedRunTakesWhatIsKnown) {
  Laboratory lab;
  const Tuning first = lab.tune();
  const auto again = [&](const std::vector<BenchPoint>& known) {
    return tune(cpu_kernels(), lab.config, lab.budget, kMachine, known, nullptr, kLong);
  };
  EXPECT_EQ(again(lab.kept).plans, first.plans);
  EXPECT_TRUE(again({}).plans.empty());
}

}  // namespace
}  // namespace gpt2train
