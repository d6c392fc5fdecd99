#include "kernels/cpu/simd.h"

#include <array>
#include <cmath>
#include <limits>

#include "kernels/cpu/dropout.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

namespace simd = cpu::simd;
using simd::kWidth;

std::array<float, kWidth> exp_of(const std::array<float, kWidth>& x) {
  std::array<float, kWidth> y;
  simd::store(y.data(), simd::exp(simd::load(x.data())));
  return y;
}
float exp_of(float x) {
  std::array<float, kWidth> lanes;
  lanes.fill(x);
  return exp_of(lanes)[kWidth - 1];
}

TEST(Simd, ExpIsWithinOneUlp) {
  double worst = 0.0;
  for (float x = -103.0f; x < 88.72f; x += 0.000731f) {
    const double expected = std::exp(double{x});
    const int exponent = std::max(std::ilogb(expected) - 23, -149);
    worst = std::max(worst, std::abs(exp_of(x) - expected) / std::ldexp(1.0, exponent));
  }
  EXPECT_LE(worst, 1.01);
}

TEST(Simd, ExpIsExactAtTheEnds) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp_of(0.0f), 1.0f);
  EXPECT_EQ(exp_of(-0.0f), 1.0f);
  EXPECT_EQ(exp_of(-infinity), 0.0f);
  EXPECT_EQ(exp_of(-1e30f), 0.0f);
  EXPECT_EQ(exp_of(-104.5f), 0.0f);
  EXPECT_EQ(exp_of(infinity), infinity);
  EXPECT_EQ(exp_of(1e30f), infinity);
  EXPECT_EQ(exp_of(88.73f), infinity);
  EXPECT_LT(exp_of(88.72f), infinity);
  EXPECT_GT(exp_of(-103.0f), 0.0f);
  EXPECT_TRUE(std::isnan(exp_of(std::nanf(""))));
}

TEST(Simd, Bf16StoreRoundsLikeTheScalarConversion) {
  for (std::uint64_t i = 0; i < (1ull << 32); i += 40'009 * kWidth) {
    std::array<float, kWidth> x;
    for (std::uint32_t lane = 0; lane < kWidth; ++lane) {
      // Low halves around a tie, above every kind of high half: NaN and infinity are among them.
      const std::uint32_t word = static_cast<std::uint32_t>(i) + lane * 40'009u;
      x[lane] = std::bit_cast<float>(lane % 2 == 0 ? word : (word & 0xFFFF0000u) + 0x7FFFu + lane);
    }
    std::array<bf16, kWidth> y;
    simd::store(y.data(), simd::load(x.data()));
    for (std::size_t lane = 0; lane < kWidth; ++lane) {
      ASSERT_EQ(y[lane].bits, from_float<bf16>(x[lane]).bits) << x[lane];
    }
  }
}

TEST(Simd, StochasticStoreRoundsLikeTheScalarConversion) {
  for (std::uint64_t i = 0; i < (1ull << 32); i += 40'009 * kWidth) {
    std::array<float, kWidth> x;
    simd::Words random;
    for (std::uint32_t lane = 0; lane < kWidth; ++lane) {
      const std::uint32_t word = static_cast<std::uint32_t>(i) + lane * 40'009u;
      x[lane] = std::bit_cast<float>(word);
      random[lane] =
          lane % 2 == 0 ? word * 2654435761u >> 16 : 0x10000u - (word & 0xFFFFu) - lane % 4;
      random[lane] &= 0xFFFFu;  // the odd lanes are about to carry
    }
    std::array<bf16, kWidth> y;
    simd::store(y.data(), simd::load(x.data()), random);
    for (int lane = 0; lane < kWidth; ++lane) {
      const auto at = static_cast<std::size_t>(lane);
      ASSERT_EQ(y[at].bits, round_stochastically(x[at], random[lane]).bits) << x[at];
    }
  }
}

template <class T>
void expect_partial_access_stays_inside() {
  for (int count = 1; count < kWidth; ++count) {
    const std::vector<float> values = uniform(count, 1);
    const GuardedTensor in(DTypeOf<T>::value, {count}, values);
    const GuardedTensor out(DTypeOf<T>::value, {count});
    const simd::SomeLanes lanes{count};
    const simd::Floats x = simd::load(in.view().as<T>(), lanes, 7.0f);
    for (int i = count; i < kWidth; ++i) EXPECT_EQ(x[i], 7.0f);
    simd::store(out.view().as<T>(), x, lanes);
    EXPECT_EQ(out.values(), in.values());
  }
}

TEST(Simd, PartialLoadsAndStoresStayInside) {
  expect_partial_access_stays_inside<float>();
  expect_partial_access_stays_inside<bf16>();
}

TEST(Simd, LoopVisitsEveryElementOnce) {
  for (std::int64_t count = 0; count < 4 * kWidth; ++count) {
    std::vector<int> visits(static_cast<std::size_t>(count));
    simd::for_each(count, [&](std::int64_t i, auto lanes) {
      for (int lane = 0; lane < lanes.count; ++lane)
        ++visits.at(static_cast<std::size_t>(i + lane));
    });
    EXPECT_EQ(visits, std::vector<int>(visits.size(), 1));
  }
}

TEST(Simd, ReductionsCoverEveryLane) {
  for (int lane = 0; lane < kWidth; ++lane) {
    simd::Floats x = simd::splat(-2.0f);
    x[lane] = 5.0f;
    EXPECT_EQ(simd::max(x), 5.0f);
    EXPECT_EQ(simd::sum(x), 5.0f - 2.0f * (kWidth - 1));
  }
}

TEST(Simd, MinAndMaxLetANanPassAsTheSecondOperand) {
  const simd::Floats nan = simd::splat(std::nanf("")), one = simd::splat(1.0f);
  EXPECT_TRUE(std::isnan(simd::min(one, nan)[0]));
  EXPECT_TRUE(std::isnan(simd::max(one, nan)[0]));
  EXPECT_EQ(simd::min(nan, one)[0], 1.0f);
  EXPECT_EQ(simd::max(nan, one)[0], 1.0f);
}

TEST(DropoutMask, FollowsTheDefinition) {
  const Dropout dropout = {
      .rate = 0.3f, .seed = 0x123456789ABCDEF0u, .layer = 11, .use = RandomUse::kDropoutAttention};
  const std::uint64_t sample = (1ull << 40) + 5;  // uses both words of the counter
  for (const std::int64_t first : {0, 1, 4, 63, 1'001, 1 << 30}) {
    for (const std::int64_t count : {1, 31, 64, 257, 1'024}) {
      const GuardedTensor mask(DType::kFloat32, {count});
      cpu::dropout_mask(mask.view().as<float>(), count, dropout, sample, first);
      std::vector<double> expected;
      for (std::int64_t i = 0; i < count; ++i) {
        expected.push_back(dropout_factor(dropout, sample, first + i));
      }
      EXPECT_EQ(mask.values(), expected) << "first " << first << ", count " << count;
    }
  }
}

TEST(DropoutMask, KeepsAnElementDrawnAtTheRate) {
  Dropout dropout = {.seed = 3, .use = RandomUse::kDropoutEmbedding};
  dropout.rate = unit_float(random_words(dropout.seed, dropout.use, 0, 0, 0)[2]);
  float mask[4];
  cpu::dropout_mask(mask, 4, dropout, 0, 0);
  EXPECT_EQ(mask[2], 1.0f / (1.0f - dropout.rate));
}

}  // namespace
}  // namespace gpt2train::test
