// Plans, what is predicted of them, and what is advised where none fits.
#include "gpt2train/train/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "gpt2train/train/advice.h"
#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

using test::tiny_config;

TEST(Candidates, KeepTheEffectiveBatchAndUseEveryDivisor) {
  RunConfig config = tiny_config();
  config.training.batch_size = 12;
  config.training.gradient_accumulation_steps = 5;
  config.memory.recompute = Recompute::kNone;
  std::vector<std::int64_t> micro;
  for (const Plan& plan : candidate_plans(config)) {
    EXPECT_EQ(plan.micro_batch * plan.accumulation, 60);
    micro.push_back(plan.micro_batch);
  }
  EXPECT_EQ(micro, (std::vector<std::int64_t>{12, 10, 6, 5, 4, 3, 2, 1}));
}

TEST(Candidates, PreferTheSettingsThemselves) {
  const RunConfig config = tiny_config();
  EXPECT_EQ(candidate_plans(config).front(), configured_plan(config));
}

TEST(Predict, NeedsNoMemoryForTheDocumentsLargestBatch) {
  RunConfig config;  // 124M
  config.model.bias = true;
  config.training.batch_size = 64;
  config.training.gradient_accumulation_steps = 1;
  config.memory.logits = Logits::kFull;
  config.memory.recompute = Recompute::kNone;
  const Prediction prediction =
      predict(cpu_kernels(), config, configured_plan(config), CachingAllocator::kNoBudget);
  EXPECT_TRUE(prediction.fits());
  // bf16 logits of (65536, 50304) alone.
  EXPECT_EQ(prediction.stats.by_tag_at_peak[static_cast<std::size_t>(Tag::kLogits)],
            std::size_t{65536} * 50304 * 2);
}

TEST(Predict, KnowsWhatNarrowStorageSaves) {
  const auto by_tag = [](const test::Storage& storage, Tag tag) {
    const RunConfig config = test::with_storage(tiny_config(), storage);
    return predict(cpu_kernels(), config, configured_plan(config), CachingAllocator::kNoBudget)
        .stats.by_tag_at_peak[static_cast<std::size_t>(tag)];
  };
  const std::size_t weights = by_tag({DType::kBFloat16}, Tag::kWeights);
  EXPECT_EQ(by_tag({DType::kBFloat16}, Tag::kMasterWeights), 2 * weights);
  EXPECT_EQ(by_tag(test::kLeanest, Tag::kMasterWeights), 0u);
  EXPECT_EQ(by_tag({DType::kBFloat16}, Tag::kOptimizer) - by_tag(test::kLeanest, Tag::kOptimizer),
            2 * weights);

  // A byte an element, and 4 for each 256 of them; each tensor in whole units of 512 bytes.
  const std::size_t wide = by_tag({DType::kBFloat16}, Tag::kOptimizer);
  const std::size_t codes = by_tag({DType::kBFloat16, Moments::kInt8}, Tag::kOptimizer);
  EXPECT_NEAR(static_cast<double>(wide - codes), 3.0 * static_cast<double>(weights),
              static_cast<double>(weights) / 64 + 2048);
}

TEST(Predict, LeavesWhatIsOffloadedToTheHost) {
  const auto predicted = [](Offload offload) {
    RunConfig config =
        test::with_storage(tiny_config(), {.dtype = DType::kBFloat16, .offload = offload});
    config.model.n_embd = 64;
    return predict(cpu_kernels(), config, configured_plan(config), CachingAllocator::kNoBudget);
  };
  const auto by_tag = [](const Prediction& prediction, Tag tag) {
    return prediction.stats.by_tag_at_peak[static_cast<std::size_t>(tag)];
  };
  const Prediction none = predicted(Offload::kNone), moments = predicted(Offload::kMoments);
  const Prediction optimizer = predicted(Offload::kOptimizer);
  EXPECT_EQ(none.host_bytes, 0u);
  EXPECT_GE(moments.host_bytes, 4 * by_tag(none, Tag::kWeights));
  EXPECT_EQ(by_tag(moments, Tag::kOptimizer), 512u);  // the state of the gradients
  EXPECT_EQ(by_tag(moments, Tag::kMasterWeights), by_tag(none, Tag::kMasterWeights));
  EXPECT_EQ(by_tag(optimizer, Tag::kOptimizer), 512u);
  EXPECT_EQ(by_tag(optimizer, Tag::kMasterWeights), 0u);
}

// As a run has it that is resumed, or lowered, between two evaluations.
TEST(Predict, SeesTheNextEvaluationFromWhereverItBegins) {
  const RunConfig config = tiny_config();
  const Plan plan = configured_plan(config);
  const auto evaluation_peak = [&](std::int64_t first_iteration) {
    return predict(cpu_kernels(), config, plan, CachingAllocator::kNoBudget, first_iteration)
        .stats.peak_by_phase[static_cast<std::size_t>(Phase::kEvaluation)];
  };
  EXPECT_GT(evaluation_peak(0), 0u);
  EXPECT_EQ(evaluation_peak(1), evaluation_peak(0));
}

TEST(Predict, NamesTheFirstTensorThatDoesNotFit) {
  RunConfig config;
  config.training.batch_size = 64;
  config.training.gradient_accumulation_steps = 1;
  config.memory.logits = Logits::kFull;
  const Prediction prediction =
      predict(cpu_kernels(), config, configured_plan(config), std::size_t{6} << 30);
  ASSERT_TRUE(prediction.failure);
  EXPECT_EQ(prediction.failure->tensor, "logits");
  EXPECT_EQ(prediction.failure->shape, "(65536, 50304)");
  EXPECT_EQ(prediction.failure->dtype, "bf16");
  EXPECT_EQ(prediction.failure->scope, "evaluation of train/head");
}

TEST(Recompute, EachLevelNeedsLess) {
  RunConfig config = tiny_config();
  config.model.n_embd = 64;
  config.model.n_layer = 6;
  config.model.block_size = 128;
  std::size_t last = CachingAllocator::kNoBudget;
  for (const Recompute level : kRecomputeLevels) {
    Plan plan = configured_plan(config);
    plan.recompute = level;
    plan.block_layers = level == Recompute::kBlock ? config.model.n_layer : 0;
    const Prediction prediction = predict(cpu_kernels(), config, plan, CachingAllocator::kNoBudget);
    EXPECT_LT(prediction.stats.peak_allocated_bytes, last) << name_of(level);
    last = prediction.stats.peak_allocated_bytes;
  }
}

TEST(Recompute, EachBlockMoreNeedsLess) {
  RunConfig config = tiny_config();
  config.model.n_embd = 64;
  config.model.n_layer = 6;
  config.model.block_size = 128;
  config.memory.recompute = Recompute::kGeluLayerNorm;
  const auto peak = [&] {
    const Plan plan = configured_plan(config);
    return predict(cpu_kernels(), config, plan, CachingAllocator::kNoBudget)
        .stats.peak_allocated_bytes;
  };
  std::size_t last = peak();
  config.memory.recompute = Recompute::kBlock;
  for (std::int64_t layers = 1; layers < 6; ++layers) {
    config.memory.recompute_layers = layers;
    EXPECT_LT(peak(), last) << layers;
    last = peak();
  }
}

TEST(Candidates, TryQuartersOfTheBlocksWhereTheSettingsLeaveItOpen) {
  RunConfig config = tiny_config();
  config.model.n_layer = 12;
  const auto layers = [&] {
    std::vector<std::int64_t> found;
    for (const Plan& plan : candidate_plans(config)) {
      if (plan.micro_batch == 1 && plan.recompute == Recompute::kBlock) {
        found.push_back(plan.block_layers);
      }
    }
    return found;
  };
  EXPECT_EQ(layers(), (std::vector<std::int64_t>{3, 6, 9, 12}));
  config.model.n_layer = 2;
  EXPECT_EQ(layers(), (std::vector<std::int64_t>{1, 2}));
  config.memory.recompute_layers = 1;
  EXPECT_EQ(layers(), (std::vector<std::int64_t>{1}));
  config.memory.recompute_layers = 0;
  config.memory.recompute = Recompute::kBlock;
  EXPECT_EQ(layers(), (std::vector<std::int64_t>{2}));
}

TEST(Evaluation, InItsOwnMicroBatchesNeedsLessWithAllLogits) {
  RunConfig config = tiny_config();
  config.model.vocab_size = 4000;
  config.training.batch_size = 12;
  config.memory.logits = Logits::kFull;
  config.evaluation.eval_only = true;
  const auto peak = [&] {
    return predict(cpu_kernels(), config, configured_plan(config), CachingAllocator::kNoBudget)
        .stats.peak_by_phase[static_cast<std::size_t>(Phase::kEvaluation)];
  };
  const std::size_t whole = peak();
  config.evaluation.eval_micro_batch = 3;
  EXPECT_LT(peak(), whole);
}

TEST(Advice, NamesABudgetThatWorksAndChangesThatFit) {
  RunConfig config = tiny_config();
  config.model.block_size = 512;
  config.model.n_embd = 128;
  config.model.vocab_size = 8000;
  config.memory.logits_rows = 1024;
  const Advice free = advise(cpu_kernels(), config, CachingAllocator::kNoBudget);
  EXPECT_TRUE(
      choose_plan(cpu_kernels(), config, candidate_plans(config), free.smallest_budget_bytes));

  const std::size_t budget = free.smallest_budget_bytes * 2 / 3;
  EXPECT_FALSE(choose_plan(cpu_kernels(), config, candidate_plans(config), budget));
  const Advice advice = advise(cpu_kernels(), config, budget);
  EXPECT_EQ(advice.smallest_budget_bytes, free.smallest_budget_bytes);
  ASSERT_FALSE(advice.suggestions.empty());
  for (const Suggestion& suggestion : advice.suggestions) {
    EXPECT_LE(suggestion.reserved_bytes, budget) << suggestion.change;
  }
}

// Where the weights and what goes with them are most of the memory.
TEST(Advice, NamesNarrowStorage) {
  RunConfig config = tiny_config();
  config.dtype = DType::kBFloat16;
  config.model.n_embd = 256;
  config.model.n_layer = 3;
  const Advice free = advise(cpu_kernels(), config, CachingAllocator::kNoBudget);
  const Advice advice = advise(cpu_kernels(), config, free.smallest_budget_bytes * 9 / 10);
  const auto names = [&](const std::string& change) {
    return std::any_of(advice.suggestions.begin(), advice.suggestions.end(),
                       [&](const Suggestion& s) { return s.change == change; });
  };
  EXPECT_TRUE(names("--moments=bfloat16")) << to_text(advice);
  EXPECT_TRUE(names("--master_weights=false")) << to_text(advice);
}

TEST(Advice, NamesOffloadingWhereTheDeviceHasMemoryOfItsOwn) {
  RunConfig config = tiny_config();
  config.model.n_embd = 256;
  config.model.n_layer = 3;
  for (const auto& [kernels, named] : {std::pair(&cuda_scratch(), true), {&cpu_kernels(), false}}) {
    const Advice free = advise(*kernels, config, CachingAllocator::kNoBudget);
    const std::string text = to_text(advise(*kernels, config, free.smallest_budget_bytes * 9 / 10));
    EXPECT_EQ(text.find("--offload=moments") != std::string::npos, named) << text;
  }
}

}  // namespace
}  // namespace gpt2train
