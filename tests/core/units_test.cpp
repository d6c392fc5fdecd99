#include "gpt2train/core/units.h"

#include <gtest/gtest.h>

#include "gpt2train/core/error.h"

namespace gpt2train {
namespace {

TEST(HumanBytes, ChoosesTheUnit) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.50 KiB");
  EXPECT_EQ(human_bytes(std::size_t{65536} * 50304 * 2), "6.14 GiB");
}

TEST(HumanCount, ChoosesTheUnit) {
  EXPECT_EQ(human_count(9999), "9999");
  EXPECT_EQ(human_count(30'130'176), "30.13M");
  EXPECT_EQ(human_count(124'475'904), "124.48M");
}

TEST(HumanSeconds, ChoosesTheUnit) {
  EXPECT_EQ(human_seconds(12.4), "12s");
  EXPECT_EQ(human_seconds(190), "3m10s");
  EXPECT_EQ(human_seconds(7500), "2h05m");
  EXPECT_EQ(human_seconds(-1), "?");
}

TEST(WithCommas, GroupsByThree) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
}

TEST(ParseBytes, ReadsBinaryUnits) {
  EXPECT_EQ(parse_bytes("4096"), 4096u);
  EXPECT_EQ(parse_bytes("10GiB"), 10 * kGiB);
  EXPECT_EQ(parse_bytes("512 MiB"), 512 * kMiB);
  EXPECT_EQ(parse_bytes("2.5g"), kGiB * 5 / 2);
}

TEST(ParseBytes, RefusesWhatIsNotASize) {
  for (const char* text : {"", "GiB", "ten", "-1", "1e999", "4 bananas", "nan", "1GiB2"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

TEST(OutOfMemoryError, SaysAllItsFacts) {
  const OutOfMemoryError error({.requested_bytes = 6 * kGiB,
                                .in_use_bytes = kGiB,
                                .cached_bytes = 2 * kMiB,
                                .largest_free_block_bytes = kMiB,
                                .budget_bytes = 5 * kGiB,
                                .tensor = "logits",
                                .shape = "(65536, 50304)",
                                .dtype = "bf16",
                                .scope = "evaluation of val/head"});
  EXPECT_STREQ(
      error.what(),
      "out of memory: logits (65536, 50304) bf16 needs 6.00 GiB in evaluation of val/head; "
      "in use 1.00 GiB, cached 2.00 MiB, largest free block 1.00 MiB, budget 5.00 GiB");
}

}  // namespace
}  // namespace gpt2train
