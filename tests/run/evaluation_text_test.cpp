#include "src/run/evaluation_text.h"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using Tokens = std::vector<std::int32_t>;

class EvaluationText : public testing::Test {
 protected:
  EvaluationText() {
    config_.data.train = directory_ / "train.bin";
    config_.evaluation.sample_tokens = 8;
  }
  void describe_bytes() {
    test::write_file(directory_ / "meta.json", R"({"kind": "bytes", "vocab_size": 256})");
  }

  const test::TempDir directory_;
  RunConfig config_;
};

TEST_F(EvaluationText, IsInTheVocabularyBesideTheTokens) {
  describe_bytes();
  const SampleText sample = evaluation_text(config_, {});
  EXPECT_EQ(sample.first_token, '\n');
  EXPECT_EQ(sample.text_of(Tokens{'A', 0xC3, 0xA9}), "A\xC3\xA9");
}

TEST_F(EvaluationText, IsWellFormedWhateverTheModelWrites) {
  describe_bytes();
  const SampleText sample = evaluation_text(config_, {});
  EXPECT_EQ(sample.text_of(Tokens{0xFF, 'A', 0xC3}),
            "\xEF\xBF\xBD"
            "A\xEF\xBF\xBD");
}

TEST_F(EvaluationText, IsNumbersWithoutAVocabulary) {
  const SampleText sample = evaluation_text(config_, {});
  EXPECT_EQ(sample.first_token, 50256);  // GPT-2's end of a text
  EXPECT_NE(sample.text_of(Tokens{15, 27}).find("15 27"), std::string::npos);
}

TEST_F(EvaluationText, IsInTheVocabularyThatIsNamedAboveAll) {
  describe_bytes();
  config_.data.vocab = "/nonexistent";
  EXPECT_THROW(evaluation_text(config_, {}), DataError);
}

TEST_F(EvaluationText, IsTheSameEachTimeForEqualLogits) {
  const SampleText one = evaluation_text(config_, {}), other = evaluation_text(config_, {});
  const std::vector<float> logits(100, 0.0f);
  Tokens tokens;
  for (std::int64_t i = 0; i < 8; ++i) {
    tokens.push_back(one.next(i, logits).value());
    EXPECT_EQ(other.next(i, logits), tokens.back());
  }
  EXPECT_NE(tokens, Tokens(8, tokens.front()));
}

TEST_F(EvaluationText, EndsWhereTheRunIsToStop) {
  EXPECT_EQ(evaluation_text(config_, [] { return true; }).next(0, std::vector{0.0f}), std::nullopt);
}

TEST_F(EvaluationText, IsNoneWhereNoneIsAskedFor) {
  config_.evaluation.sample_tokens = 0;
  config_.data.vocab = "/nonexistent";
  EXPECT_FALSE(evaluation_text(config_, {}).next);
}

}  // namespace
}  // namespace gpt2train
