#include "gpt2train/data/loader.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::TempDir;
using test::write_file;

constexpr std::int64_t kBlock = 8;

// Two files in which a token tells its place: 0, 1, 2 ... and 1000, 1001 ...
class LoaderTest : public testing::Test {
 protected:
  LoaderTest() {
    write_file(dir_ / "a.bin", counting(0, 100));
    write_file(dir_ / "b.bin", counting(1000, 50));
    source_.emplace(dir_ / "*.bin", TokenFormat::kAuto, 2000);
  }

  static std::string counting(int first, int count) {
    std::string bytes;
    for (int token = first; token < first + count; ++token) {
      bytes += static_cast<char>(token & 0xFF);
      bytes += static_cast<char>(token >> 8);
    }
    return bytes;
  }

  Loader loader(std::uint64_t seed = 1, RandomUse use = RandomUse::kTrainSample) const {
    return Loader(*source_, "train", kBlock, seed, use);
  }

  static std::vector<std::int32_t> inputs(const Loader& loader, std::uint64_t first,
                                          std::int64_t rows) {
    Batch batch;
    loader.read(first, rows, batch);
    return batch.inputs;
  }

  TempDir dir_;
  std::optional<TokenSource> source_;
};

TEST_F(LoaderTest, TargetsAreInputsShiftedByOne) {
  Batch batch;
  loader().read(0, 200, batch);
  ASSERT_EQ(batch.rows, 200);
  ASSERT_EQ(batch.time, kBlock);
  ASSERT_EQ(std::ssize(batch.inputs), 200 * kBlock);
  ASSERT_EQ(std::ssize(batch.targets), 200 * kBlock);
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) {
    EXPECT_EQ(batch.targets[i], batch.inputs[i] + 1);
  }
}

TEST_F(LoaderTest, WindowIsAFunctionOfSeedUseAndSample) {
  constexpr std::uint64_t kSample = (std::uint64_t{1} << 40) + 3;
  const Philox4 words = random_words(7, RandomUse::kEvalSample, kSample, 0, 0);
  const std::uint64_t word = (std::uint64_t{words[1]} << 32) + words[0];
  const std::int64_t in_a = 100 - kBlock, in_b = 50 - kBlock;  // windows of kBlock + 1 tokens
  const auto place = static_cast<std::int64_t>(static_cast<long double>(word) / 0x1p64L *
                                               static_cast<long double>(in_a + in_b));
  const std::int64_t token = place < in_a ? place : 1000 + place - in_a;
  EXPECT_EQ(inputs(loader(7, RandomUse::kEvalSample), kSample, 1)[0], token);
}

TEST_F(LoaderTest, SplitIntoMicroBatchesChangesNothing) {
  const Loader data = loader();
  const std::vector<std::int32_t> whole = inputs(data, 40, 12);
  std::vector<std::int32_t> parts;
  std::uint64_t next = 40;
  for (const std::int64_t rows : {1, 5, 6}) {
    const std::vector<std::int32_t> part = inputs(data, next, rows);
    parts.insert(parts.end(), part.begin(), part.end());
    next += static_cast<std::uint64_t>(rows);
  }
  EXPECT_EQ(parts, whole);
}

TEST_F(LoaderTest, ReusesTheBatch) {
  const Loader data = loader();
  Batch batch;
  data.read(0, 8, batch);
  const std::int32_t* memory = batch.inputs.data();
  data.read(8, 4, batch);
  EXPECT_EQ(batch.inputs.data(), memory);
  EXPECT_EQ(batch.inputs, inputs(data, 8, 4));
}

TEST_F(LoaderTest, SeedAndUseGiveOtherSamples) {
  const std::vector<std::int32_t> base = inputs(loader(), 0, 16);
  EXPECT_NE(inputs(loader(2), 0, 16), base);
  EXPECT_NE(inputs(loader(1, RandomUse::kEvalSample), 0, 16), base);
  EXPECT_EQ(inputs(loader(), 0, 16), base);
}

TEST_F(LoaderTest, EveryWindowIsDrawnEvenly) {
  constexpr std::int64_t kDraws = 134 * 1000;
  const std::vector<std::int32_t> tokens = inputs(loader(), 0, kDraws);
  std::map<std::int32_t, int> draws;
  for (std::int64_t row = 0; row < kDraws; ++row) ++draws[tokens[row * kBlock]];
  ASSERT_EQ(draws.size(), 134u);  // 92 windows in one file, 42 in the other
  double chi_squared = 0.0;
  for (const auto& [token, count] : draws) chi_squared += (count - 1000.0) * (count - 1000.0) / 1e3;
  EXPECT_LT(chi_squared, 133 + 5 * std::sqrt(2.0 * 133));  // five standard deviations
}

TEST_F(LoaderTest, TooLittleDataSaysHowMuchIsThereAndNeeded) {
  EXPECT_NO_THROW(Loader(*source_, "val", 99, 1, RandomUse::kEvalSample));
  try {
    const Loader data(*source_, "val", 1024, 1, RandomUse::kEvalSample);
    FAIL() << "150 tokens gave a window of 1025";
  } catch (const DataError& error) {
    EXPECT_STREQ(error.what(),
                 "val: 150 tokens in 2 files, expected at least 1,025 in one file (block_size and "
                 "the last target)");
  }
  EXPECT_THROW(Loader(*source_, "val", 100, 1, RandomUse::kEvalSample), DataError);
}

}  // namespace
}  // namespace gpt2train
