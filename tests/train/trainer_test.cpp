#include "gpt2train/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "gpt2train/core/moment_code.h"
#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

using test::kLeanest;
using test::moments_of;
using test::Storage;
using test::tiny_config;
using test::TinyRun;
using test::weights_of;
using test::with_storage;

TEST(Trainer, OverfitsOneSample) {
  RunConfig config = tiny_config();
  config.training.gradient_accumulation_steps = 1;
  config.training.max_iters = 200;
  config.evaluation.eval_interval = 1000;
  config.checkpoint.always_save_checkpoint = false;
  TinyRun run(config, CachingAllocator::kNoBudget, config.model.block_size + 1);
  Trainer trainer(run.setup());
  trainer.run();
  EXPECT_NEAR(run.recorder.steps.front().loss, std::log(37.0), 0.4);  // nearly a uniform guess
  EXPECT_LT(run.recorder.steps.back().loss, 0.02);
  EXPECT_EQ(run.recorder.steps.size(), 200u);
}

TEST(Trainer, EvaluatesAtTheStartAtIntervalsAndAtTheEnd) {
  RunConfig config = tiny_config();
  config.training.max_iters = 5;
  TinyRun run(config);
  Trainer(run.setup()).run();
  std::vector<std::int64_t> at;
  for (const EvalEvent& event : run.recorder.evaluations) at.push_back(event.step);
  EXPECT_EQ(at, (std::vector<std::int64_t>{0, 2, 4, 5}));
}

TEST(Trainer, WritesATextAtEachEvaluationWhereItIsAskedFor) {
  RunConfig config = tiny_config();
  TinyRun silent(config);
  Trainer(silent.setup()).run();
  EXPECT_EQ(silent.recorder.evaluations.front().sample, "");
  config.evaluation.sample_tokens = 12;  // past block_size
  TinyRun run(config);
  Trainer(run.setup()).run();
  ASSERT_EQ(run.recorder.evaluations.size(), 3u);
  for (const EvalEvent& event : run.recorder.evaluations) EXPECT_EQ(event.sample, "012340123401");
  EXPECT_GT(run.recorder.end->stats.peak_by_phase[static_cast<std::size_t>(Phase::kSampling)], 0u);
  test::expect_as_predicted(*run.recorder.end);
  // And changes nothing.
  EXPECT_EQ(run.recorder.steps.back().loss, silent.recorder.steps.back().loss);
  EXPECT_EQ(run.recorder.evaluations.back().val_loss, silent.recorder.evaluations.back().val_loss);
}

TEST(Trainer, EvalOnlyStopsAfterTheFirst) {
  RunConfig config = tiny_config();
  config.evaluation.eval_only = true;
  TinyRun run(config);
  Trainer(run.setup()).run();
  EXPECT_EQ(run.recorder.evaluations.size(), 1u);
  EXPECT_TRUE(run.recorder.steps.empty());
}

TEST(Trainer, SamePlanAndSeedGiveTheSameBits) {
  std::vector<std::vector<float>> weights;
  for (int i = 0; i < 2; ++i) {
    TinyRun run(tiny_config());
    Trainer trainer(run.setup());
    trainer.run();
    weights.push_back(weights_of(trainer.state()));
  }
  EXPECT_EQ(weights[0], weights[1]);
}

class Resume : public testing::TestWithParam<Storage> {};

TEST_P(Resume, ContinuesBitForBit) {
  RunConfig config = with_storage(tiny_config(), GetParam());
  config.model.dropout = 0.1;
  config.training.max_iters = 6;
  TinyRun whole(config);
  Trainer uninterrupted(whole.setup());
  uninterrupted.run();

  TinyRun first(config);
  int seen = 0;
  first.interrupted = [&] { return ++seen > 20; };  // in the middle of a step
  Trainer(first.setup()).run();
  ASSERT_TRUE(first.recorder.end->interrupted);
  const std::int64_t stopped_at = first.recorder.end->step;
  ASSERT_GT(stopped_at, 0);
  ASSERT_LT(stopped_at, 6);

  config.init_from = "resume";
  config.out_dir = first.directory.path();
  TinyRun second(config);
  Trainer resumed(second.setup());
  resumed.run();
  ASSERT_EQ(second.recorder.steps.front().step, stopped_at);
  for (const StepEvent& step : second.recorder.steps) {
    EXPECT_EQ(step.loss, whole.recorder.steps[static_cast<std::size_t>(step.step)].loss);
  }
  EXPECT_EQ(weights_of(resumed.state()), weights_of(uninterrupted.state()));
  EXPECT_EQ(moments_of(resumed.state()), moments_of(uninterrupted.state()));
}

INSTANTIATE_TEST_SUITE_P(Cpu, Resume,
                         testing::Values(Storage{DType::kFloat32}, Storage{DType::kBFloat16},
                                         Storage{DType::kFloat32, Moments::kBFloat16}, kLeanest,
                                         Storage{DType::kFloat32, Moments::kInt8},
                                         Storage{DType::kBFloat16, Moments::kInt8, true,
                                                 Offload::kOptimizer}),
                         [](const auto& param_info) { return name_of(param_info.param); });

std::vector<float> rounded(std::vector<float> values, bool to_bf16) {
  for (float& x : values) x = to_bf16 ? to_float(from_float<bf16>(x)) : x;
  return values;
}

// To bf16, what a checkpoint has in float32 is rounded to nearest; back, nothing changes.
TEST(Resume, TakesWhatWasStoredOtherwise) {
  const Storage widest{DType::kBFloat16};
  for (const auto& [before, after] : {std::pair(widest, kLeanest), std::pair(kLeanest, widest)}) {
    RunConfig config = with_storage(tiny_config(), before);
    TinyRun first(config);
    Trainer trainer(first.setup());
    trainer.run();
    config = with_storage(config, after);
    config.init_from = "resume";
    config.out_dir = first.directory.path();
    TinyRun second(config);
    const Trainer resumed(second.setup());
    const bool narrower = !after.master_weights;
    EXPECT_EQ(weights_of(resumed.state()), rounded(weights_of(trainer.state()), narrower));
    EXPECT_EQ(moments_of(resumed.state()), rounded(moments_of(trainer.state()), narrower));
  }
}

struct MomentValue {
  float value = 0.0f, scale = 0.0f;  // of the block, where it is a code
};

template <class Code>
void append_values(std::vector<MomentValue>& to, const ModelState& state, const TensorView& flat,
                   const TensorView& scales) {
  for (const Parameter& parameter : state.layout().list()) {
    const TensorView view = state.layout().view(flat, parameter);
    for (std::int64_t i = 0; i < view.count(); ++i) {
      if (scales.present()) {
        const float scale = scales.as<float>()[(parameter.offset + i) / kCodeBlock];
        to.push_back({decode(view.as<Code>()[i], scale), scale});
      } else {
        to.push_back({view.as<float>()[i], 0.0f});
      }
    }
  }
}

// Trained with moments of `before`, then loaded with those of `after`.
std::pair<std::vector<MomentValue>, std::vector<MomentValue>> moments_before_and_after(
    Moments before, Moments after) {
  const auto values = [](const ModelState& state) {
    std::vector<MomentValue> all;
    append_values<std::int8_t>(all, state, state.flat_m(), state.m_scales());
    append_values<std::uint8_t>(all, state, state.flat_v(), state.v_scales());
    return all;
  };
  RunConfig config = with_storage(tiny_config(), {.moments = before});
  TinyRun first(config);
  Trainer trainer(first.setup());
  trainer.run();
  config.memory.moments = after;
  config.init_from = "resume";
  config.out_dir = first.directory.path();
  TinyRun second(config);
  const Trainer resumed(second.setup());
  return {values(trainer.state()), values(resumed.state())};
}

TEST(Resume, TakesCodesAsTheirValues) {
  const auto [codes, floats] = moments_before_and_after(Moments::kInt8, Moments::kFloat32);
  int others = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    ASSERT_EQ(floats[i].value, codes[i].value) << i;
    others += codes[i].value != 0.0f ? 1 : 0;
  }
  EXPECT_GT(others, static_cast<int>(codes.size() / 2));
}

// The largest distance of a level from the next is 2 / 127 of the scale.
TEST(Resume, TakesFloatsAsTheCodesNearestToThem) {
  const auto [floats, codes] = moments_before_and_after(Moments::kFloat32, Moments::kInt8);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    ASSERT_LE(std::abs(floats[i].value), codes[i].scale) << i;
    ASSERT_NEAR(floats[i].value, codes[i].value, codes[i].scale / 127.0f) << i;
  }
}

TEST(Trainer, WeightsWithoutMastersStartAsThoseRoundedFromThem) {
  const auto start = [](const Storage& storage) {
    TinyRun run(with_storage(tiny_config(), storage));
    const Trainer trainer(run.setup());
    const TensorView weights = trainer.state().flat_weights();
    const auto* bits = static_cast<const char*>(weights.data);
    return std::vector<char>(bits, bits + weights.bytes());
  };
  EXPECT_EQ(start(kLeanest), start({DType::kBFloat16}));
}

// Means over the last 20 of 120 steps, which come from 3.6 to 1.59; 9.7e-4 was the most seen.
TEST(Trainer, NarrowStorageFollowsTheCurve) {
  const auto last_loss = [](const Storage& storage) {
    RunConfig config = with_storage(tiny_config(), storage);
    config.training.max_iters = 120;
    config.training.gradient_accumulation_steps = 1;
    config.evaluation.eval_interval = 1000;
    config.checkpoint.always_save_checkpoint = false;
    TinyRun run(config, CachingAllocator::kNoBudget, 400);
    Trainer(run.setup()).run();
    double sum = 0.0;
    for (std::size_t i = 100; i < 120; ++i) sum += run.recorder.steps[i].loss / 20;
    return sum;
  };
  const double expected = last_loss({DType::kBFloat16});
  for (const Storage& storage : {Storage{DType::kBFloat16, Moments::kBFloat16},
                                 Storage{DType::kBFloat16, Moments::kFloat32, false}, kLeanest,
                                 Storage{DType::kBFloat16, Moments::kInt8},
                                 Storage{DType::kBFloat16, Moments::kInt8, false}}) {
    EXPECT_NEAR(last_loss(storage), expected, 3e-3) << name_of(storage);
  }
}

TEST(Resume, KeepsTheSplitThatWasInForce) {
  RunConfig config = tiny_config();
  config.memory.recompute = Recompute::kNone;
  TinyRun first(config);
  Trainer trainer(first.setup());
  first.memory.fail_request_after(5);
  trainer.run();
  ASSERT_EQ(first.recorder.out_of_memory.size(), 1u);

  config.init_from = "resume";
  config.out_dir = first.directory.path();
  TinyRun second(config);
  EXPECT_EQ(Trainer(second.setup()).plan(), trainer.plan());
}

TEST(Resume, RefusesACheckpointOfAnotherModel) {
  TinyRun first(tiny_config());
  Trainer(first.setup()).run();
  RunConfig config = tiny_config();
  config.model.n_layer = 3;
  config.init_from = "resume";
  config.out_dir = first.directory.path();
  TinyRun second(config);
  EXPECT_THROW(Trainer(second.setup()), Error);
}

TEST(Trainer, SkipsAnUpdateThatIsNotFinite) {
  RunConfig config = tiny_config();
  TinyRun run(config);
  Trainer trainer(run.setup());
  const std::vector<float> before = weights_of(trainer.state());
  // An infinite weight makes every gradient NaN.
  float* weights = trainer.state().updated_weights().as<float>();
  const float kept = weights[0];
  weights[0] = std::numeric_limits<float>::infinity();
  const StepResult result = *trainer.step();
  EXPECT_FALSE(result.finite);
  weights[0] = kept;
  EXPECT_EQ(weights_of(trainer.state()), before);
  EXPECT_EQ(trainer.position().updates, 0);
  EXPECT_EQ(trainer.position().iteration, 1);
}

TEST(Trainer, RecomputationChangesNoBit) {
  std::vector<std::vector<float>> weights;
  const auto run_with = [&](Recompute level, std::int64_t layers) {
    RunConfig config = tiny_config();
    config.model.dropout = 0.1;
    config.memory.recompute = level;
    config.memory.recompute_layers = layers;
    TinyRun run(config);
    Trainer trainer(run.setup());
    trainer.run();
    weights.push_back(weights_of(trainer.state()));
  };
  for (const Recompute level : kRecomputeLevels) run_with(level, 0);
  run_with(Recompute::kBlock, 1);  // of two
  for (std::size_t i = 1; i < weights.size(); ++i) EXPECT_EQ(weights[0], weights[i]) << i;
}

TEST(Trainer, EvaluatesTheSameSamplesInSmallerMicroBatches) {
  std::vector<double> losses;
  for (const std::int64_t rows : {0, 1, 3, 100}) {
    RunConfig config = tiny_config();
    config.evaluation.eval_micro_batch = rows;
    TinyRun run(config);
    Trainer trainer(run.setup());
    losses.push_back(trainer.evaluate()->val_loss);
  }
  for (const double loss : losses) EXPECT_NEAR(loss, losses[0], 1e-5);
}

TEST(Trainer, ChunkedAndFullLogitsAgree) {
  std::vector<double> losses;
  for (const Logits mode : {Logits::kChunked, Logits::kFull}) {
    RunConfig config = tiny_config();
    config.memory.logits = mode;
    TinyRun run(config);
    Trainer(run.setup()).run();
    losses.push_back(run.recorder.steps.back().loss);
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-5);
}

}  // namespace
}  // namespace gpt2train
