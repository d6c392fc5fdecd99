#include "gpt2train/train/sampling.h"

#include "tests/support/sampling_case.h"

namespace gpt2train::test {
namespace {

class Sampling : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, Sampling, testing::Values(DType::kFloat32, DType::kBFloat16),
                         [](const auto& each) { return std::string(name_of(each.param)); });

// Logits reach about 0.3 here, so 1e-6 is some rounding of sums in fp32.
TEST(SamplingCache, ChangesNoTokenAndLogitsByRoundingAlone) {
  expect_cache_changes_nothing(sampling_config(DType::kFloat32), open_cpu_backend, 1e-6);
}

// A prompt in three pieces, shared among texts, with rows that are no whole vectors.
TEST(SamplingCache, ReadsALongPromptInPieces) {
  RunConfig config = sampling_config(DType::kFloat32);
  config.model.block_size = 700;
  config.model.n_embd = 18;
  SamplingTask task{.prompt = prompt_of(600, config),
                    .num_samples = 2,
                    .max_new_tokens = 4,
                    .caching = Caching::kRecomputed};
  const Texts expected = sample(config, task, 1, open_cpu_backend());
  task.caching = Caching::kKept;
  const Texts texts = sample(config, task, 2, open_cpu_backend());
  EXPECT_EQ(texts.tokens, expected.tokens);
  EXPECT_LE(largest_deviation(expected, texts), 1e-6);
}

TEST_P(Sampling, WritesTheSameBitsHoweverManyAtOnce) {
  const RunConfig config = sampling_config(GetParam());
  const SamplingTask task{.prompt = prompt_of(9, config), .num_samples = 17, .max_new_tokens = 20};
  const Texts alone = sample(config, task, 1, open_cpu_backend());
  for (const std::int64_t at_once : {2, 7, 16}) {
    const Texts together = sample(config, task, at_once, open_cpu_backend());
    EXPECT_EQ(together.tokens, alone.tokens) << at_once << " at once";
    EXPECT_EQ(together.logits, alone.logits) << at_once << " at once";
  }
}

TEST_P(Sampling, TakesTheMemoryThatWasPredicted) {
  expect_memory_as_predicted(sampling_config(GetParam()), open_cpu_backend);
}

TEST(SamplingTexts, EndEachByItself) {
  const RunConfig config = sampling_config(DType::kFloat32);
  SamplingTask task{.prompt = {1}, .num_samples = 4, .max_new_tokens = 9};
  task.next = [](std::int64_t s, std::int64_t index,
                 std::span<const float> logits) -> std::optional<std::int32_t> {
    if (index == 2 * s) return std::nullopt;
    return pick(s, index, logits);
  };
  std::vector<std::int64_t> done;
  task.done = [&](std::int64_t s) { done.push_back(s); };
  const Texts texts = sample(config, task, 3, open_cpu_backend());
  EXPECT_FALSE(texts.tokens.contains(0));
  EXPECT_EQ(done, (std::vector<std::int64_t>{0, 1, 2, 3}));
  for (const std::int64_t s : {1, 2, 3}) {
    EXPECT_EQ(texts.tokens.at(s).size(), static_cast<std::size_t>(2 * s));
  }
}

TEST(SamplingBudget, NamesTheMostThatFitsAndTheSmallestBudget) {
  RunConfig config = sampling_config(DType::kFloat32);
  config.model.n_layer = 8;
  config.model.n_embd = 64;
  config.model.block_size = 1000;
  const SamplingTask task{.prompt = {1}, .num_samples = 100, .max_new_tokens = 900};
  const auto work = [&](const InferenceModel& model, std::int64_t rows) {
    sample_texts(model, task, rows);
  };
  const auto fits = [&](std::int64_t rows, std::size_t budget) {
    return predict_inference(cpu_kernels(), config, rows, budget, work).fits();
  };
  const std::size_t budget = std::size_t{64} << 20;
  const FittingRows most = fitting_rows(cpu_kernels(), config, 100, budget, work);
  EXPECT_GT(most.rows, 1);
  EXPECT_LT(most.rows, 100);
  EXPECT_TRUE(fits(most.rows, budget));
  EXPECT_FALSE(fits(most.rows + 1, budget));
  try {
    static_cast<void>(fitting_rows(cpu_kernels(), config, 100, 4 << 20, work));
    FAIL() << "it fits 4 MiB";
  } catch (const OutOfMemoryError& error) {
    const std::string text = error.what();
    const std::string before = "the smallest memory.limit that works here is ";
    ASSERT_NE(text.find(before), std::string::npos) << text;
    const std::size_t smallest = std::stoull(text.substr(text.find(before) + before.size()));
    EXPECT_TRUE(fits(1, smallest));
    EXPECT_FALSE(fits(1, smallest - (std::size_t{1} << 20)));
  }
}

}  // namespace
}  // namespace gpt2train::test
