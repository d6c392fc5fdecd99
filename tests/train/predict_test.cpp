// The promise: the peak of a run is known to the byte before it starts, whatever the settings.
#include <gtest/gtest.h>

#include "gpt2train/train/plan.h"
#include "tests/support/random_levers.h"
#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

using test::expect_as_predicted;
using test::RandomLevers;
using test::TinyRun;

RandomLevers cpu_levers(unsigned seed) {
  RandomLevers levers(seed);
  levers.leave_out("dtype: float16");  // which a CPU does not compute in
  return levers;
}

std::size_t unlimited_bytes(const RunConfig& config) {
  return predict(cpu_kernels(), config, configured_plan(config), CachingAllocator::kNoBudget)
      .stats.peak_reserved_bytes;
}

// How many of the runs had each phase.
std::array<int, kPhaseCount> run_and_compare(RandomLevers& levers, int count) {
  std::array<int, kPhaseCount> phases = {};
  for (int i = 0; i < count; ++i) {
    TinyRun run(levers.config());
    SCOPED_TRACE(levers.drawn());
    Trainer trainer(run.setup());
    trainer.run();
    expect_as_predicted(*run.recorder.end);
    for (std::size_t phase = 0; phase < kPhaseCount; ++phase) {
      phases[phase] += run.memory.stats().peak_by_phase[phase] > 0 ? 1 : 0;
    }
  }
  return phases;
}

TEST(Predict, EqualsTheMeasuredPeakToTheByteForAFewConfigurations) {
  RandomLevers levers = cpu_levers(19);
  run_and_compare(levers, 10);
}

TEST(SlowPredict, EqualsTheMeasuredPeakToTheByteForRandomConfigurations) {
  RandomLevers levers = cpu_levers(20);
  const std::array<int, kPhaseCount> phases = run_and_compare(levers, 220);
  EXPECT_EQ(levers.missed(), "");
  for (const Phase phase :
       {Phase::kSetup, Phase::kTraining, Phase::kEvaluation, Phase::kCheckpoint}) {
    EXPECT_GE(phases[static_cast<std::size_t>(phase)], 20) << name_of(phase);
  }
}

// Lowered before the start (plan: auto) or by running out (plan: off).
TEST(SlowPredict, EqualsTheMeasuredPeakUnderATightBudget) {
  RandomLevers levers = cpu_levers(21);
  int ran = 0, lowered = 0, recovered = 0;
  for (int draws = 0; draws < 2000 && ran < 60; ++draws) {
    const RunConfig config = levers.config();
    const std::size_t budget = unlimited_bytes(config) * 9 / 10;
    // Slabs of 2 and 20 MiB leave little to lower in some.
    if (!choose_plan(cpu_kernels(), config, candidate_plans(config), budget)) continue;
    SCOPED_TRACE(levers.drawn());
    TinyRun run(config, budget);
    Trainer trainer(run.setup());
    trainer.run();
    ++ran;
    lowered += run.recorder.plans.front().lowered ? 1 : 0;
    recovered += run.recorder.out_of_memory.empty() ? 0 : 1;
    EXPECT_LE(run.memory.stats().peak_reserved_bytes, budget);
    expect_as_predicted(*run.recorder.end);
  }
  EXPECT_EQ(levers.missed(), "");
  EXPECT_GE(ran, 60);
  EXPECT_GE(lowered, 10);
  EXPECT_GE(recovered, 10);
}

TEST(SlowPredict, EqualsTheMeasuredPeakAfterLoweringAndGrowing) {
  RandomLevers levers = cpu_levers(22);
  int grown = 0;
  for (int draws = 0; draws < 200 && grown < 20; ++draws) {
    RunConfig config = levers.config();
    config.memory.grow = true;
    config.evaluation.eval_only = false;
    config.training.max_iters = 22;  // the first attempt is after 20
    config.evaluation.eval_interval = 15;
    config.model.block_size = std::min<std::int64_t>(config.model.block_size, 33);
    config.training.gradient_accumulation_steps = 1;
    if (config.training.batch_size == 1) continue;  // there is nothing to lower
    config.checkpoint = {.checkpoint_interval = 100, .always_save_checkpoint = false};
    TinyRun run(config);
    SCOPED_TRACE(levers.drawn());
    TrainerSetup setup = run.setup();
    setup.budget_now = [] { return CachingAllocator::kNoBudget; };
    Trainer trainer(setup);
    run.memory.fail_request_after(100);
    try {
      trainer.run();
    } catch (const OutOfMemoryError&) {  // where no smaller plan takes less
    }
    if (run.recorder.grown.empty()) continue;
    ++grown;
    expect_as_predicted(*run.recorder.end);
  }
  EXPECT_GE(grown, 20);
}

}  // namespace
}  // namespace gpt2train
