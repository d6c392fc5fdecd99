// Single changes of a run, what each saves, and rules of thumb beside what is needed.
#include "src/cli/explain.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <tuple>

#include "gpt2train/config/load.h"
#include "kernels/cuda/scratch.h"
#include "tests/support/config_text.h"

namespace gpt2train {
namespace {

// "--a=1 --b=2" as the command line would read it.
std::vector<Override> overrides_of(const std::string& flags) {
  std::vector<Override> overrides;
  std::istringstream words(flags);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    const std::string flag = word.substr(0, equals);
    overrides.push_back({.flag = flag, .key = flag.substr(2), .value = word.substr(equals + 1)});
  }
  return overrides;
}

RunConfig small_config() {
  RunConfig config;
  config.model = {.n_layer = 4, .n_head = 6, .n_embd = 96, .block_size = 512, .vocab_size = 1000};
  config.training.batch_size = 12;
  config.training.gradient_accumulation_steps = 2;
  config.memory.logits_rows = 256;
  return config;
}

Explanation explained(const RunConfig& config, std::size_t budget) {
  return explain(cuda_scratch(), config, budget);
}

TEST(Changes, AreWhatTheirFlagsSay) {
  for (const Logits logits : {Logits::kChunked, Logits::kFull}) {
    for (const DType dtype : {DType::kBFloat16, DType::kFloat32}) {
      RunConfig config = small_config();
      config.memory.logits = logits;
      config.dtype = dtype;
      std::set<std::string> settings;
      for (const Change& change : single_changes(config, true)) {
        const RunConfig typed =
            parse_config(dump_config(config), "base", overrides_of(change.flags));
        test::expect_equal(typed, change.config);
        settings.insert(change.setting);
      }
      EXPECT_EQ(settings.contains("logits"), logits == Logits::kFull);
      EXPECT_EQ(settings.contains("dtype"), dtype == DType::kFloat32);
      EXPECT_EQ(settings.contains("master_weights"), dtype == DType::kBFloat16);
      for (const char* always :
           {"batch_size", "recompute", "offload", "moments", "block_size", "n_layer", "n_embd"}) {
        EXPECT_TRUE(settings.contains(always)) << always;
      }
    }
  }
}

TEST(Changes, OfTheFullModelHaveTheNotesFixes) {
  RunConfig config;
  config.training.batch_size = 16;
  config.training.gradient_accumulation_steps = 32;
  std::set<std::string> flags;
  for (const Change& change : single_changes(config, false)) flags.insert(change.flags);
  for (const char* fix : {"--batch_size=8 --gradient_accumulation_steps=64",
                          "--batch_size=4 --gradient_accumulation_steps=128",
                          "--batch_size=2 --gradient_accumulation_steps=256", "--block_size=512",
                          "--n_layer=9", "--n_embd=512 --n_head=8", "--recompute=block"}) {
    EXPECT_TRUE(flags.contains(fix)) << fix;
  }
}

TEST(Explain, SaysExactlyWhatEachChangeSavesAndWhetherItFits) {
  const RunConfig config = small_config();
  const std::size_t needs =
      explained(config, CachingAllocator::kNoBudget).needs.stats.peak_reserved_bytes;
  const std::size_t budget = needs * 7 / 10;
  const Explanation found = explained(config, budget);
  EXPECT_FALSE(found.fits);
  EXPECT_TRUE(found.failure);
  int fitting = 0;
  for (const ExplainedChange& one : found.changes) {
    const RunConfig& changed = one.change.config;
    const Plan plan = configured_plan(changed);
    const Prediction free = predict(cuda_scratch(), changed, plan, CachingAllocator::kNoBudget);
    EXPECT_EQ(one.peak_bytes, free.stats.peak_allocated_bytes) << one.change.flags;
    EXPECT_EQ(one.saved_bytes, static_cast<std::int64_t>(found.needs.stats.peak_allocated_bytes) -
                                   static_cast<std::int64_t>(free.stats.peak_allocated_bytes));
    EXPECT_EQ(one.fits, predict(cuda_scratch(), changed, plan, budget).fits()) << one.change.flags;
    fitting += one.fits ? 1 : 0;
  }
  EXPECT_GT(fitting, 0);
  EXPECT_LT(fitting, static_cast<int>(found.changes.size()));
}

TEST(Explain, StarsTheGentlestChangeThatFits) {
  const RunConfig config = small_config();
  const std::size_t needs =
      explained(config, CachingAllocator::kNoBudget).needs.stats.peak_reserved_bytes;
  for (const std::size_t percent : {95u, 80u, 60u, 40u}) {
    const Explanation found = explained(config, needs * percent / 100);
    if (found.fits) continue;
    const auto rank = [](const ExplainedChange& one) {
      return std::tuple(one.change.effect, one.saved_bytes);
    };
    for (const ExplainedChange& one : found.changes) {
      if (!one.fits) continue;
      ASSERT_TRUE(found.smallest);
      EXPECT_LE(rank(found.changes[*found.smallest]), rank(one)) << one.change.flags;
    }
    if (found.smallest) {
      EXPECT_TRUE(found.changes[*found.smallest].fits);
    }
  }
}

TEST(Explain, HasNothingToStarWhereItFits) {
  const Explanation found = explained(small_config(), CachingAllocator::kNoBudget);
  EXPECT_TRUE(found.fits);
  EXPECT_FALSE(found.smallest);
  EXPECT_FALSE(found.failure);
}

// The figures of a note on a model of 30M parameters: 300 MB of core, 906 MB and some 6 GB of
// activations.
TEST(RulesOfThumb, AreThoseOfTheNote) {
  RunConfig config;
  config.dtype = DType::kFloat16;
  config.model = {.n_layer = 6, .n_head = 6, .n_embd = 384, .block_size = 512};
  config.training.batch_size = 16;
  config.training.gradient_accumulation_steps = 4;
  const Explanation found = explained(config, CachingAllocator::kNoBudget);
  ASSERT_EQ(found.rules.size(), 3u);
  const RuleOfThumb& lasting = found.rules[0];
  EXPECT_EQ(lasting.low_bytes, 299'335'680u);
  EXPECT_EQ(lasting.high_bytes, 2 * 299'335'680u);
  const RuleOfThumb& activations = found.rules[1];
  EXPECT_EQ(activations.low_bytes, 905'969'664u);
  EXPECT_EQ(activations.high_bytes, 6'039'797'760u);
  const RuleOfThumb& together = found.rules[2];
  EXPECT_EQ(together.low_bytes, lasting.low_bytes + activations.low_bytes);
  EXPECT_EQ(together.ours_bytes, found.needs.stats.peak_allocated_bytes);
  EXPECT_EQ(together.ours_bytes, lasting.ours_bytes + activations.ours_bytes);
  EXPECT_EQ(together.nanogpt_bytes, lasting.nanogpt_bytes + activations.nanogpt_bytes);
}

}  // namespace
}  // namespace gpt2train
