#include "gpt2train/core/rng.h"

#include <gtest/gtest.h>

namespace gpt2train {
namespace {

// Known answers of Random123's kat_vectors for philox4x32-10.
TEST(Philox, MatchesTheKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0), (Philox4{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(philox({0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}, 0xffffffffffffffffull),
            (Philox4{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, 0x299f31d0a4093822ull),
            (Philox4{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

TEST(RandomWords, DifferInEveryPartOfTheAddress) {
  const Philox4 base = random_words(7, RandomUse::kInit, 1, 2, 3);
  EXPECT_NE(base, random_words(8, RandomUse::kInit, 1, 2, 3));
  EXPECT_NE(base, random_words(7, RandomUse::kSampling, 1, 2, 3));
  EXPECT_NE(base, random_words(7, RandomUse::kInit, 2, 2, 3));
  EXPECT_NE(base, random_words(7, RandomUse::kInit, 1, 3, 3));
  EXPECT_NE(base, random_words(7, RandomUse::kInit, 1, 2, 4));
  EXPECT_NE(base, random_words(7, RandomUse::kInit, 1 + (std::uint64_t{1} << 40), 2, 3));
}

TEST(Below, CoversTheRangeAndNeverReachesTheBound) {
  EXPECT_EQ(below(0, 10), 0u);
  EXPECT_EQ(below(~std::uint64_t{0}, 10), 9u);
  EXPECT_EQ(below(std::uint64_t{1} << 63, 10), 5u);
}

TEST(UnitFloat, IsBelowOne) {
  EXPECT_EQ(unit_float(0), 0.0f);
  EXPECT_LT(unit_float(0xffffffffu), 1.0f);
}

}  // namespace
}  // namespace gpt2train
