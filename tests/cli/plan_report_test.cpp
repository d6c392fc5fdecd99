// What `plan` answers: all combinations of settings, the choice, and what is left out of a table.
#include "src/cli/plan_report.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "kernels/table.h"

namespace gpt2train {
namespace {

RunConfig small_config() {
  RunConfig config;
  config.model = {.n_layer = 2, .n_head = 2, .n_embd = 64, .block_size = 512, .vocab_size = 300};
  config.training.batch_size = 8;
  config.training.gradient_accumulation_steps = 2;
  config.memory.logits_rows = 32;
  return config;
}

PlanAnswer answered(const RunConfig& config, std::size_t budget) {
  return answer_plan(cpu_kernels(), config, budget);
}

TEST(PlanAnswer, HasEveryPlanWithEachKindOfLogitsAndMoments) {
  const RunConfig config = small_config();
  const PlanAnswer answer = answered(config, CachingAllocator::kNoBudget);
  std::set<std::tuple<std::int64_t, Recompute, std::int64_t, Logits, Moments>> seen;
  for (const Candidate& candidate : answer.candidates) {
    seen.insert({candidate.plan.micro_batch, candidate.plan.recompute, candidate.plan.block_layers,
                 candidate.logits, candidate.moments});
    EXPECT_EQ(candidate.as_configured,
              candidate.logits == Logits::kChunked && candidate.moments == Moments::kFloat32);
    EXPECT_EQ(candidate.plan.micro_batch * candidate.plan.accumulation, 16);
  }
  EXPECT_EQ(seen.size(), answer.candidates.size());
  EXPECT_EQ(seen.size(), 6 * candidate_plans(config).size());
}

// Each with its own logits and moments.
TEST(PlanAnswer, PredictsWhatARunDoes) {
  const RunConfig config = small_config();
  const std::size_t budget = 24 << 20;
  for (const Candidate& candidate : answered(config, budget).candidates) {
    RunConfig alone = config;
    alone.memory.logits = candidate.logits;
    alone.memory.moments = candidate.moments;
    const Prediction prediction = predict(cpu_kernels(), alone, candidate.plan, budget);
    EXPECT_EQ(prediction.stats, candidate.prediction.stats);
    EXPECT_EQ(prediction.fits(), candidate.prediction.fits());
  }
}

TEST(PlanAnswer, ChoosesAsATrainerDoes) {
  RunConfig config = small_config();
  const std::size_t most = answered(config, CachingAllocator::kNoBudget)
                               .candidates[0]
                               .prediction.stats.peak_reserved_bytes;
  int lowered = 0;
  for (const std::size_t budget : {most, most * 3 / 4, most / 2}) {
    const PlanAnswer answer = answered(config, budget);
    const std::optional<PredictedPlan> chosen =
        choose_plan(cpu_kernels(), config, candidate_plans(config), budget);
    ASSERT_EQ(answer.chosen.has_value(), chosen.has_value());
    if (!chosen) continue;
    EXPECT_EQ(answer.candidates[*answer.chosen].plan, chosen->plan);
    lowered += chosen->plan == configured_plan(config) ? 0 : 1;
  }
  EXPECT_GT(lowered, 0);
  config.memory.plan = PlanMode::kOff;
  EXPECT_FALSE(answered(config, most / 2).chosen);
  EXPECT_TRUE(answered(config, most).chosen);
}

TEST(PlanAnswer, ChoosesTheFirstOfAnotherOrderThatFits) {
  const RunConfig config = small_config();
  const std::vector<Plan> plans = candidate_plans(config);
  const Plan slow = plans.back(), slower = plans[plans.size() - 2];
  PlanAnswer answer = answered(config, CachingAllocator::kNoBudget);
  choose_first_of(answer, {});
  EXPECT_EQ(answer.candidates[*answer.chosen].plan, plans.front());
  choose_first_of(answer, {slow, slower});
  EXPECT_EQ(answer.candidates[*answer.chosen].plan, slow);
  EXPECT_TRUE(answer.candidates[*answer.chosen].as_configured);
  // A budget in which the first of the order has no room.
  const std::size_t least = answer.candidates[*answer.chosen].prediction.stats.peak_reserved_bytes;
  PlanAnswer tight = answered(config, least);
  choose_first_of(tight, {plans.front(), slow});
  EXPECT_EQ(tight.candidates[*tight.chosen].plan, slow);
}

TEST(PlanAnswer, TellsWhatNothingFasterUndercuts) {
  const RunConfig config = small_config();
  const PlanAnswer answer = answered(config, CachingAllocator::kNoBudget);
  const auto rows = [&](bool all) {
    const std::string text = to_text(answer, config, all);
    std::size_t count = 0;
    for (std::size_t at = text.find("block x 1"); at != std::string::npos;
         at = text.find("block x 1", at + 1)) {
      ++count;
    }
    return count;
  };
  EXPECT_EQ(rows(true), 4u);  // micro-batches 8, 4, 2 and 1
  EXPECT_LT(rows(false), 4u);
}

TEST(PlanAnswer, HasSpeedsWhereTheyAreKnownAndTellsTheFastest) {
  const RunConfig config = small_config();
  PlanAnswer answer = answered(config, CachingAllocator::kNoBudget);
  EXPECT_EQ(to_text(answer, config, false).find("tokens/s"), std::string::npos);
  EXPECT_TRUE(to_json(answer, config).at("candidates")[0].at("tokens_per_second").is_null());
  answer.speeds = {.measured_points = 1};
  for (Candidate& candidate : answer.candidates) {
    const bool best = candidate.plan.micro_batch == 1 && candidate.plan.block_layers == 1;
    candidate.speed = {.tokens_per_second = best ? 4321.0 : 1234.0, .measured = best};
  }
  const std::string text = to_text(answer, config, false);
  EXPECT_NE(text.find("   tokens/s\n"), std::string::npos);
  EXPECT_NE(text.find(" ~1,234\n"), std::string::npos);
  EXPECT_NE(text.find(" 4,321\n"), std::string::npos) << "the fastest is left out";
  EXPECT_EQ(to_json(answer, config).at("candidates")[0].at("tokens_per_second"), 1234.0);
}

}  // namespace
}  // namespace gpt2train
