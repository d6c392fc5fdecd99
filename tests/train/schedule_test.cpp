#include "gpt2train/train/schedule.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace gpt2train {
namespace {

TEST(LearningRate, WarmsUpThenFollowsTheCosineThenStays) {
  const OptimizerConfig config{
      .learning_rate = 1.0, .min_lr = 0.1, .warmup_iters = 9, .lr_decay_iters = 109};
  EXPECT_DOUBLE_EQ(learning_rate(config, 0), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(config, 8), 0.9);
  EXPECT_DOUBLE_EQ(learning_rate(config, 9), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(config, 59), 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(config, 109), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(config, 1'000'000), 0.1);
}

TEST(LearningRate, StaysWithoutDecay) {
  const OptimizerConfig config{.learning_rate = 0.5, .decay_lr = false};
  EXPECT_DOUBLE_EQ(learning_rate(config, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(config, 1'000'000), 0.5);
}

TEST(LearningRate, AllowsADecayThatEndsWithTheWarmUp) {
  const OptimizerConfig config{
      .learning_rate = 1.0, .min_lr = 0.1, .warmup_iters = 10, .lr_decay_iters = 10};
  EXPECT_DOUBLE_EQ(learning_rate(config, 10), 0.1);
}

TEST(LearningRate, EqualsTheReferenceTable) {
  std::ifstream file(GPT2TRAIN_GOLDEN_DIR "/numerics/lr_schedule.json");
  if (!file) GTEST_SKIP() << "no reference data here";
  const nlohmann::json table = nlohmann::json::parse(file);
  const OptimizerConfig config{.learning_rate = table["learning_rate"],
                               .min_lr = table["min_lr"],
                               .warmup_iters = table["warmup_iters"],
                               .lr_decay_iters = table["lr_decay_iters"]};
  for (const auto& row : table["table"]) {
    EXPECT_NEAR(learning_rate(config, row[0]), row[1].get<double>(), 1e-18) << row[0];
  }
}

}  // namespace
}  // namespace gpt2train
