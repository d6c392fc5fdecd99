#include "gpt2train/train/loss_scale.h"

#include <gtest/gtest.h>

namespace gpt2train {
namespace {

void repeat(LossScale& scale, std::int64_t steps, bool finite) {
  for (std::int64_t i = 0; i < steps; ++i) scale.update(finite);
}

TEST(LossScale, DoublesAfterTwoThousandFiniteStepsInARow) {
  LossScale scale;
  repeat(scale, 1999, true);
  EXPECT_EQ(scale.factor, 65536.0f);
  scale.update(true);
  EXPECT_EQ(scale.factor, 131072.0f);
  EXPECT_EQ(scale.good, 0);
}

TEST(LossScale, HalvesAtOnceAndCountsAnew) {
  LossScale scale;
  repeat(scale, 1999, true);
  scale.update(false);
  EXPECT_EQ(scale.factor, 32768.0f);
  repeat(scale, 1999, true);
  EXPECT_EQ(scale.factor, 32768.0f);
  scale.update(true);
  EXPECT_EQ(scale.factor, 65536.0f);
}

TEST(LossScale, StaysAPositivePowerOfTwo) {
  LossScale scale;
  repeat(scale, 1000, false);
  EXPECT_EQ(scale.factor, 0x1p-24f);
  repeat(scale, 200 * LossScale::kGrowthInterval, true);
  EXPECT_EQ(scale.factor, 0x1p+40f);
}

}  // namespace
}  // namespace gpt2train
