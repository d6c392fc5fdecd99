// Stochastic rounding: each of the 65,536 random numbers once gives the exact mean.
#include "gpt2train/core/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "gpt2train/core/rng.h"

namespace gpt2train {
namespace {

constexpr std::uint32_t kDraws = 1 << 16;

TEST(RoundStochastically, GivesEachNeighbourByItsDistance) {
  for (const float x : {1.0000001f, 1.00390625f, 1.0f + 0x1p-8f, -3.1415927f, 1.9999999f, -1e-30f,
                        0x1.234567p-126f, 0x1.2345p-130f, 0x1p-149f, 123456.789f}) {
    double sum = 0.0;
    for (std::uint32_t random = 0; random < kDraws; ++random) {
      sum += double{to_float(round_stochastically(x, random))};
    }
    EXPECT_EQ(sum / kDraws, double{x}) << x;
  }
}

TEST(RoundStochastically, LeavesWhatIsBf16AsItIs) {
  for (std::uint32_t bits = 0; bits < kDraws; ++bits) {
    const float x = to_float(bf16{static_cast<std::uint16_t>(bits)});
    for (const std::uint32_t random : {0u, 1u, 0x8000u, 0xFFFFu}) {
      const float rounded = to_float(round_stochastically(x, random));
      ASSERT_TRUE(std::isnan(x) ? std::isnan(rounded) : rounded == x) << x << ' ' << random;
    }
  }
}

TEST(RoundStochastically, KeepsNaNsWhoseBitsAreCutOff) {
  const float nan = std::bit_cast<float>(0xFF800001u);
  EXPECT_TRUE(std::isnan(to_float(round_stochastically(nan, 0xFFFF))));
  EXPECT_TRUE(std::isnan(to_float(round_stochastically(nan, 0))));
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_float(round_stochastically(-infinity, 0xFFFF)), -infinity);
}

TEST(RandomHalf, TakesEachHalfOfTheWordsOnce) {
  const Philox4 words = {0x00020001u, 0x00040003u, 0x00060005u, 0x00080007u};
  for (int i = 0; i < 8; ++i) EXPECT_EQ(random_half(words, i), static_cast<std::uint32_t>(i + 1));
}

}  // namespace
}  // namespace gpt2train
