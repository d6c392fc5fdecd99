// The promise on the emulated GPU: every lever again, with those that a CPU does not have,
// predicted as on a machine without CUDA.
#include <gtest/gtest.h>

#include "gpt2train/train/plan.h"
#include "tests/support/random_levers.h"
#include "tests/support/tiny_run.h"

extern "C" gpt2train::Backend* gpt2train_make_cuda_backend();

namespace gpt2train::test {
namespace {

TEST(SlowEmulatedPredict, EqualsTheMeasuredPeakToTheByteForRandomConfigurations) {
  RandomLevers levers(23);
  int offloaded = 0;
  for (int i = 0; i < 30; ++i) {
    RunConfig config = levers.config();
    // The emulator runs every thread of a grid.
    const auto at_most = [](std::int64_t& value, std::int64_t most) {
      value = std::min(value, most);
    };
    at_most(config.model.n_embd, 8 * config.model.n_head);
    at_most(config.model.block_size, 9);
    at_most(config.model.vocab_size, 130);
    at_most(config.training.batch_size, 2);
    at_most(config.training.gradient_accumulation_steps, 2);
    at_most(config.training.max_iters, 2);
    at_most(config.evaluation.eval_iters, 1);
    SCOPED_TRACE(levers.drawn());
    TinyRun run(config, CachingAllocator::kNoBudget, 4000,
                std::unique_ptr<Backend>(gpt2train_make_cuda_backend()));
    Trainer trainer(run.setup());
    trainer.run();
    const EndEvent& end = *run.recorder.end;
    expect_as_predicted(end);
    const Prediction elsewhere = predict(cuda_scratch_for(config), config, configured_plan(config),
                                         CachingAllocator::kNoBudget);
    EXPECT_EQ(elsewhere.stats, end.prediction.stats);
    EXPECT_EQ(elsewhere.host_bytes, end.prediction.host_bytes);
    offloaded += end.host_bytes > 0 ? 1 : 0;
  }
  EXPECT_EQ(levers.missed(), "");
  EXPECT_GE(offloaded, 10);
}

}  // namespace
}  // namespace gpt2train::test
