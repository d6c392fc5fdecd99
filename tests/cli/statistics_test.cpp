#include "src/cli/statistics.h"

#include <gtest/gtest.h>

namespace gpt2train {
namespace {

TEST(Spread, IsThatOfNumPy) {
  EXPECT_EQ(spread_of({7.0}), (Spread{7.0, 7.0, 7.0}));
  EXPECT_EQ(spread_of({3.0, 1.0, 2.0, 5.0, 4.0}), (Spread{2.0, 3.0, 4.0}));
  EXPECT_EQ(spread_of({4.0, 1.0, 3.0, 2.0}), (Spread{1.75, 2.5, 3.25}));
}

TEST(Spread, OfNothingIsABug) {
  EXPECT_THROW(spread_of({}), InternalError);
}

TEST(ParetoFront, HasWhatNothingBeats) {
  const std::vector<Outcome> outcomes = {{1, 10}, {2, 30}, {2, 20}, {3, 30}, {4, 40}, {5, 5}};
  EXPECT_EQ(pareto_front(outcomes), (std::vector<bool>{true, true, false, false, true, false}));
}

TEST(ParetoFront, KeepsEquals) {
  EXPECT_EQ(pareto_front({{1, 1}, {1, 1}, {0.5, 0.5}}), (std::vector<bool>{true, true, true}));
  EXPECT_TRUE(pareto_front({}).empty());
}

}  // namespace
}  // namespace gpt2train
