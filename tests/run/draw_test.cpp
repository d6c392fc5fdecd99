#include "gpt2train/run/draw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

namespace gpt2train {
namespace {

// Probabilities 0.1, 0.4, 0.2, 0.3.
std::vector<float> logits() {
  std::vector<float> values;
  for (const double p : {0.1, 0.4, 0.2, 0.3}) values.push_back(static_cast<float>(std::log(p)));
  return values;
}

// How often each token is drawn in 4,000 draws, as shares.
std::map<std::int32_t, double> shares(const DrawSettings& settings,
                                      const std::vector<float>& values = logits()) {
  constexpr int kDraws = 4000;
  std::map<std::int32_t, double> result;
  for (int i = 0; i < kDraws; ++i) {
    result[draw_token(values, settings, i % 7, i / 7)] += 1.0 / kDraws;
  }
  return result;
}

// Four standard deviations of 4,000 draws are below 0.032.
constexpr double kNear = 0.032;

TEST(DrawToken, FollowsTheProbabilities) {
  const auto drawn = shares({.temperature = 1.0, .top_k = 0});
  EXPECT_NEAR(drawn.at(0), 0.1, kNear);
  EXPECT_NEAR(drawn.at(1), 0.4, kNear);
  EXPECT_NEAR(drawn.at(2), 0.2, kNear);
  EXPECT_NEAR(drawn.at(3), 0.3, kNear);
}

// Squares of the probabilities, over their sum of 0.3.
TEST(DrawToken, DividesLogitsByTheTemperature) {
  const auto drawn = shares({.temperature = 0.5, .top_k = 0});
  EXPECT_NEAR(drawn.at(0), 0.01 / 0.3, kNear);
  EXPECT_NEAR(drawn.at(1), 0.16 / 0.3, kNear);
  EXPECT_NEAR(drawn.at(3), 0.09 / 0.3, kNear);
}

TEST(DrawToken, TakesTheLargestAtTemperatureZero) {
  const auto drawn = shares({.temperature = 0.0});
  EXPECT_EQ(drawn.size(), 1u);
  EXPECT_TRUE(drawn.contains(1));
  EXPECT_TRUE(shares({.temperature = 0.0}, {1.0f, 3.0f, 3.0f}).contains(1))
      << "of equals the first";
}

TEST(DrawToken, LeavesOutAllButTheKLargest) {
  const auto drawn = shares({.temperature = 1.0, .top_k = 2});
  EXPECT_EQ(drawn.size(), 2u);
  EXPECT_NEAR(drawn.at(1), 4.0 / 7.0, kNear);
  EXPECT_NEAR(drawn.at(3), 3.0 / 7.0, kNear);
}

TEST(DrawToken, KeepsTheLargestAloneAndAllThatEqualTheKth) {
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 1}).size(), 1u);
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 2}, {0.0f, -1.0f, 0.0f, 0.0f}).size(), 3u);
}

TEST(DrawToken, KeepsTheLikeliestThatReachTheShare) {
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 0, .top_p = 0.0}).size(), 1u);
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 0, .top_p = 0.39}).size(), 1u);
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 0, .top_p = 0.41}).size(), 2u);
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 0, .top_p = 0.71}).size(), 3u);
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 0, .top_p = 1.0}).size(), 4u);
  // Two of four equal ones have a half, to the bit.
  const auto halved =
      shares({.temperature = 1.0, .top_k = 0, .top_p = 0.5}, {0.0f, 0.0f, 0.0f, 0.0f});
  EXPECT_EQ(halved.size(), 2u);
}

// 4/7 of what is left by top_k is below 0.6; 0.4 of all would be below 0.41.
TEST(DrawToken, CountsTheShareOfWhatTopKLeaves) {
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 2, .top_p = 0.5}).size(), 1u);
  EXPECT_EQ(shares({.temperature = 1.0, .top_k = 2, .top_p = 0.6}).size(), 2u);
}

TEST(DrawToken, DependsOnSeedSampleAndIndexAlone) {
  const auto text = [](std::uint64_t seed, std::int64_t sample) {
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 30; ++i) tokens.push_back(draw_token(logits(), {.seed = seed}, sample, i));
    return tokens;
  };
  EXPECT_EQ(text(1, 0), text(1, 0));
  EXPECT_NE(text(1, 0), text(2, 0));
  EXPECT_NE(text(1, 0), text(1, 1));
}

}  // namespace
}  // namespace gpt2train
