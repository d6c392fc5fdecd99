#include "gpt2train/run/sampler.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "gpt2train/core/error.h"
#include "src/run/text_codec.h"
#include "tests/run/byte_run.h"

namespace gpt2train {
namespace {

class SamplerOfARun : public testing::Test {
 protected:
  SamplerOfARun() {
    TrainObserver quiet;
    train(run_.config, quiet);
  }
  ModelSource source() const { return {.out_dir = run_.config.out_dir}; }

  test::ByteRun run_;
};

TEST_F(SamplerOfARun, WritesWhatItTellsPieceByPiece) {
  const Sampler sampler(source());
  std::string told;
  const SampleRequest request{.prompt = "to be", .max_new_tokens = 30};
  const std::string text = sampler.sample(request, [&](std::string_view piece) { told += piece; });
  EXPECT_EQ(text.size(), 30u);
  EXPECT_EQ(told, text);
  EXPECT_EQ(sampler.sample(request), text);  // the same numbers again
  SampleRequest other = request;
  other.draw.seed = 1;
  EXPECT_NE(sampler.sample(other), text);
}

TEST_F(SamplerOfARun, KnowsTheSettingsOfTheRun) {
  EXPECT_EQ(Sampler(source()).config().model, run_.config.model);
}

TEST_F(SamplerOfARun, RefusesWhatTheModelHasNoTokensFor) {
  const Sampler sampler(source());
  EXPECT_THROW(sampler.sample({.prompt = ""}), ConfigError);
  EXPECT_THROW(sampler.sample({.max_new_tokens = 0}), ConfigError);
  EXPECT_THROW(sampler.sample({.stop_at_eot = true}), ConfigError);
  EXPECT_THROW(sampler.sample({.draw = {.temperature = -1.0}}), ConfigError);
}

TEST_F(SamplerOfARun, TellsOfCheckpointsThatItSkipped) {
  const std::string newer = run_.config.out_dir + "/step-00000009";
  std::filesystem::create_directory(newer);
  const Sampler sampler(source());
  ASSERT_EQ(sampler.notes().size(), 1u);
  EXPECT_NE(sampler.notes()[0].find("skipped " + newer), std::string::npos) << sampler.notes()[0];
}

// Its files are weights like anyone's, and their shapes do not tell heads and GELU.
TEST_F(SamplerOfARun, DoesNotGuessWhatWeightsDoNotTell) {
  const std::string weights = run_.config.out_dir + "/step-00000004";
  try {
    Sampler({.init_from = weights});
    FAIL() << "of how many heads?";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("the number of heads"), std::string::npos);
  }
  const Sampler told({.init_from = weights, .config = run_.config.out_dir + "/config.yaml"});
  EXPECT_EQ(told.config().model, run_.config.model);
}

TEST(TextOfBytes, HasNothingForTokensBeyondThem) {
  RunConfig config;
  config.data.format = TokenFormat::kBytes;
  const std::unique_ptr<TextCodec> codec = text_codec(config, "");
  EXPECT_EQ(codec->decode(255), "\xFF");
  EXPECT_EQ(codec->decode(256 + 'a'), "");
}

TEST(Sampler, NeedsACheckpoint) {
  EXPECT_THROW(Sampler({.out_dir = "nowhere"}), CheckpointError);
}

}  // namespace
}  // namespace gpt2train
