#include "gpt2train/core/moment_code.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace gpt2train {
namespace {

constexpr float kScales[] = {1.0f, 3.7e-3f, 1.234e-9f, 0x1p-126f, 3e38f};

template <class Code>
class MomentCodes : public testing::Test {};
using Codes = testing::Types<std::int8_t, std::uint8_t>;
TYPED_TEST_SUITE(MomentCodes, Codes);

template <class Code>
std::vector<Code> all_codes() {
  std::vector<Code> codes;
  constexpr int kLowest = std::is_signed_v<Code> ? -127 : 0;
  for (int code = kLowest; code <= std::numeric_limits<Code>::max(); ++code) {
    codes.push_back(static_cast<Code>(code));
  }
  return codes;
}

TYPED_TEST(MomentCodes, AreInTheOrderOfTheirValuesUpToTheScale) {
  float last = -std::numeric_limits<float>::infinity();
  for (const TypeParam code : all_codes<TypeParam>()) {
    const float value = decode(code, 3.0f);
    EXPECT_GT(value, last);
    last = value;
  }
  EXPECT_FLOAT_EQ(last, 3.0f);
}

TYPED_TEST(MomentCodes, AreNearestToTheirOwnValues) {
  for (const float scale : kScales) {
    for (const TypeParam code : all_codes<TypeParam>()) {
      if (decode(code, scale) < 0x1p-126f && scale < 1e-30f) continue;  // has lost its last bits
      const float value = decode(code, scale);
      EXPECT_EQ(encode<TypeParam>(value, inverse_of(scale), kNearest), code) << scale;
    }
  }
}

// Over all random numbers: 2^-16 of the distance of two neighbours, at most 2 / 127, is left.
TYPED_TEST(MomentCodes, RoundToTheValueInTheMean) {
  for (const double x : {1e-4, 0.013, 0.2, 0.71, 0.996, 1.0}) {
    double sum = 0.0;
    for (std::uint32_t random = 0; random < 0x10000; ++random) {
      const TypeParam code = encode<TypeParam>(static_cast<float>(2.0 * x), 0.5f, random);
      sum += double{decode(code, 2.0f)};
    }
    EXPECT_NEAR(sum / 0x1p17, x, 3e-7) << x;
  }
}

TEST(FirstMomentCodes, HaveAZeroAndASign) {
  EXPECT_EQ(decode(std::int8_t{0}, 5.0f), 0.0f);
  for (const std::int8_t code : all_codes<std::int8_t>()) {
    EXPECT_EQ(decode(static_cast<std::int8_t>(-code), 0.3f), -decode(code, 0.3f));
  }
}

TEST(SecondMomentCodes, HaveNoZero) {
  for (const std::uint32_t random : {0u, 0xFFFFu}) {
    EXPECT_EQ(encode<std::uint8_t>(0.0f, 1.0f, random), 0);
    EXPECT_EQ(decode(encode<std::uint8_t>(1e-30f, 1.0f, random), 1.0f), 0x1p-32f);
  }
}

TEST(CodeScale, OfZerosMakesEveryCodeZero) {
  for (const float largest : {0.0f, 1e-39f}) {
    EXPECT_EQ(code_scale(largest), 0.0f);
    EXPECT_EQ(inverse_of(code_scale(largest)), 0.0f);
  }
  EXPECT_EQ(decode(std::uint8_t{255}, 0.0f), 0.0f);
  EXPECT_EQ(decode(std::int8_t{-127}, 0.0f), 0.0f);
  EXPECT_EQ(encode<std::int8_t>(1e-39f, 0.0f, 0xFFFF), 0);
}

TEST(CodeBlocks, CountTheLastOneThatIsNotFull) {
  EXPECT_EQ(code_blocks(1), 1);
  EXPECT_EQ(code_blocks(256), 1);
  EXPECT_EQ(code_blocks(257), 2);
}

}  // namespace
}  // namespace gpt2train
