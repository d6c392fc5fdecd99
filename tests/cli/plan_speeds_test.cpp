#include "src/cli/plan_speeds.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "gpt2train/config/devices.h"
#include "gpt2train/core/error.h"
#include "tests/support/planted_machine.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

const Machine kMachine = {.backend = "cpu", .device = "a processor"};

RunConfig small_config(std::int64_t width = 64) {
  RunConfig config;
  config.dtype = DType::kFloat32;
  config.model = {.n_layer = 2, .n_head = 4, .n_embd = width, .block_size = 64, .vocab_size = 300};
  config.training.batch_size = 8;
  config.training.gradient_accumulation_steps = 2;
  return config;
}

Plan plan_of(std::int64_t micro, Recompute level = Recompute::kNone, std::int64_t layers = 0) {
  return {
      .micro_batch = micro, .accumulation = 16 / micro, .recompute = level, .block_layers = layers};
}

double planted_rate(const RunConfig& config, const Plan& plan) {
  const double tokens =
      static_cast<double>(plan.micro_batch * plan.accumulation * config.model.block_size);
  return tokens / test::PlantedMachine{}.step_seconds(step_work(cpu_kernels(), config, plan),
                                                      plan.accumulation);
}

// As bench would measure it on the planted machine, each time taken `slower` times.
BenchPoint point_of(const RunConfig& config, const Plan& plan, const Machine& machine = kMachine,
                    double slower = 1.0) {
  const test::PlantedMachine planted;
  const StepWork work = step_work(cpu_kernels(), config, plan);
  BenchPoint point{
      .settings = bench_settings("1", machine.backend, machine.device, config, plan, {}, {}),
      .date = "2026-11-21T12:00:00Z",
      .dtype = config.dtype,
      .plan = plan,
      .status = BenchPoint::Status::kMeasured,
      .update_seconds = slower * planted.update_seconds(work),
      .peak_flops_per_second = planted.flops_per_second};
  const std::int64_t timed = point.settings.at("timed_accumulation");
  point.step_seconds.assign(3, slower * planted.step_seconds(work, timed));
  point.tokens_per_second =
      tokens_per_second(config, plan, timed, point.step_seconds, point.update_seconds);
  return point;
}

PlanSpeeds speeds_of(const RunConfig& config, const std::vector<BenchPoint>& points) {
  return {cpu_kernels(), config, kMachine, points};
}

TEST(PlanSpeeds, HaveWhatWasMeasuredAndModelTheRest) {
  const RunConfig config = small_config();
  const PlanSpeeds speeds = speeds_of(
      config, {point_of(config, plan_of(8), kMachine, 1.2), point_of(config, plan_of(2)),
               point_of(config, plan_of(1)), point_of(config, plan_of(4, Recompute::kBlock, 2))});
  EXPECT_EQ(speeds.basis().model_points, 4u);
  ASSERT_TRUE(speeds.of(config, plan_of(8)));
  EXPECT_TRUE(speeds.of(config, plan_of(8))->measured);
  EXPECT_NEAR(speeds.of(config, plan_of(8))->tokens_per_second,
              planted_rate(config, plan_of(8)) / 1.2, 1e-2 * planted_rate(config, plan_of(8)));
  for (const Plan& plan : {plan_of(4), plan_of(4, Recompute::kBlock, 1)}) {
    ASSERT_TRUE(speeds.of(config, plan));
    EXPECT_FALSE(speeds.of(config, plan)->measured);
    EXPECT_NEAR(speeds.of(config, plan)->tokens_per_second / planted_rate(config, plan), 1.0, 0.1);
  }
  ASSERT_TRUE(speeds.basis().model_error);
  EXPECT_GT(speeds.basis().model_error->worst, 0.1) << "one point is a fifth slower";
}

TEST(PlanSpeeds, AreOfThisMachineAndThisWayToComputeOnly) {
  const RunConfig config = small_config();
  RunConfig narrow = config;
  narrow.dtype = DType::kBFloat16;
  BenchPoint failed = point_of(config, plan_of(8));
  failed.status = BenchPoint::Status::kOutOfMemory;
  const PlanSpeeds speeds =
      speeds_of(config, {point_of(config, plan_of(8), {"cpu", "another"}),
                         point_of(config, plan_of(4), {"cuda", "a processor"}),
                         point_of(narrow, plan_of(8)), point_of(narrow, plan_of(4)), failed});
  EXPECT_FALSE(speeds.basis().known());
  EXPECT_FALSE(speeds.of(config, plan_of(8)));
}

TEST(PlanSpeeds, OfOnePointAreThatPointAlone) {
  const RunConfig config = small_config();
  const PlanSpeeds speeds = speeds_of(config, {point_of(config, plan_of(8))});
  EXPECT_TRUE(speeds.of(config, plan_of(8)));
  EXPECT_FALSE(speeds.of(config, plan_of(4)));
  EXPECT_EQ(speeds.basis().model_points, 0u);
}

TEST(PlanSpeeds, CountTheUpdateAsOftenAsThePlanMakesIt) {
  const RunConfig config = small_config();
  Plan longer = plan_of(8);
  longer.accumulation = 50;
  const PlanSpeeds speeds = speeds_of(config, {point_of(config, plan_of(8))});
  ASSERT_TRUE(speeds.of(config, longer));
  EXPECT_TRUE(speeds.of(config, longer)->measured);
  EXPECT_NEAR(speeds.of(config, longer)->tokens_per_second / planted_rate(config, longer), 1.0,
              0.01);
  EXPECT_GT(speeds.of(config, longer)->tokens_per_second,
            speeds.of(config, plan_of(8))->tokens_per_second);
}

TEST(PlanSpeeds, OfPointsWithTheSameSettingsTheNewestCounts) {
  const RunConfig config = small_config();
  const BenchPoint old = point_of(config, plan_of(8));
  BenchPoint newer = point_of(config, plan_of(8), kMachine, 2.0);
  newer.date = "2026-11-22T12:00:00Z";
  const double rate = speeds_of(config, {newer}).of(config, plan_of(8))->tokens_per_second;
  EXPECT_EQ(speeds_of(config, {old, newer}).of(config, plan_of(8))->tokens_per_second, rate);
  EXPECT_EQ(speeds_of(config, {newer, old}).of(config, plan_of(8))->tokens_per_second, rate);
}

TEST(PlanSpeeds, ComeFromOtherModelsWhereThisOneWasNeverMeasured) {
  const RunConfig config = small_config();
  std::vector<BenchPoint> points;
  for (const std::int64_t width : {96, 128}) {
    for (const std::int64_t micro : {1, 8}) {
      points.push_back(point_of(small_config(width), plan_of(micro)));
    }
  }
  const PlanSpeeds speeds = speeds_of(config, points);
  ASSERT_TRUE(speeds.of(config, plan_of(8)));
  EXPECT_FALSE(speeds.of(config, plan_of(8))->measured);
  EXPECT_NEAR(speeds.of(config, plan_of(8))->tokens_per_second / planted_rate(config, plan_of(8)),
              1.0, 0.1);
  EXPECT_TRUE(speeds.basis().model_error);
  points.resize(2);  // one other model cannot be left out
  EXPECT_FALSE(speeds_of(config, points).basis().model_error);
  EXPECT_TRUE(speeds_of(config, points).of(config, plan_of(8)));
  // Two of its own, and the others are of no account.
  points.push_back(point_of(config, plan_of(8), kMachine, 3.0));
  points.push_back(point_of(config, plan_of(2), kMachine, 3.0));
  EXPECT_EQ(speeds_of(config, points).basis().model_points, 2u);
  EXPECT_NEAR(speeds_of(config, points).of(config, plan_of(4))->tokens_per_second /
                  planted_rate(config, plan_of(4)),
              1.0 / 3, 0.05);
}

constexpr const char* kMeasuredCard = "NVIDIA GeForce RTX 3090, sm_86";

TEST(PlanSpeeds, OfACardThatWasNotMeasuredAreThoseOfTheMostSimilarAtItsRates) {
  RunConfig config = small_config(512);  // which arithmetic binds as well
  config.memory.device = "rtx3060";
  std::vector<BenchPoint> points;
  for (const Plan& plan : {plan_of(8), plan_of(2), plan_of(1), plan_of(4, Recompute::kBlock, 2)}) {
    points.push_back(point_of(config, plan, {"cuda", kMeasuredCard}));
    // Less like an RTX 3060, and not in the catalogue.
    points.push_back(point_of(config, plan, {"cuda", "NVIDIA H200, sm_90"}, 0.1));
    points.push_back(point_of(config, plan, {"cuda", "NVIDIA GeForce 256, sm_10"}, 9.0));
  }
  const Machine absent = {.backend = "cuda", .device = ""};
  const PlanSpeeds speeds(cpu_kernels(), config, absent, points);
  EXPECT_EQ(speeds.basis().scaled_from, kMeasuredCard);
  EXPECT_EQ(speeds.basis().measured_points, 0u);
  test::PlantedMachine slower;
  const DeviceSpec from = find_device("rtx3090", ""), to = find_device("rtx3060", "");
  slower.flops_per_second *= to.float32_flops / from.float32_flops;
  slower.bytes_per_second *= to.bytes_per_second / from.bytes_per_second;
  slower.update_bytes_per_second *= to.bytes_per_second / from.bytes_per_second;
  for (const Plan& plan : {plan_of(8), plan_of(4)}) {
    const double seconds =
        slower.step_seconds(step_work(cpu_kernels(), config, plan), plan.accumulation);
    ASSERT_TRUE(speeds.of(config, plan));
    EXPECT_FALSE(speeds.of(config, plan)->measured);
    EXPECT_NEAR(speeds.of(config, plan)->tokens_per_second * seconds / (16 * 64), 1.0, 0.1);
  }
  const auto json = to_json(speeds.of(config, plan_of(4)), speeds.basis());
  EXPECT_EQ(json.at("tokens_per_second_source"), "scaled");
  EXPECT_TRUE(json.at("tokens_per_second_error").is_null()) << "that of one card is not another's";
  EXPECT_EQ(to_json(speeds.basis()).at("scaled_from"), kMeasuredCard);

  // A driver's name tells the card as well; what was measured on it counts more.
  const Machine present = {.backend = "cuda", .device = "NVIDIA GeForce RTX 3060, sm_86"};
  EXPECT_EQ(PlanSpeeds(cpu_kernels(), config, present, points).basis().scaled_from, kMeasuredCard);
  points.push_back(point_of(config, plan_of(8), present, 5.0));
  const PlanSpeeds own(cpu_kernels(), config, present, points);
  EXPECT_EQ(own.basis().scaled_from, "");
  ASSERT_TRUE(own.of(config, plan_of(8)));
  EXPECT_TRUE(own.of(config, plan_of(8))->measured);
  // What is known of no card is not scaled.
  config.memory.device = "";
  EXPECT_FALSE(PlanSpeeds(cpu_kernels(), config, absent, points).basis().known());
}

TEST(PlanSpeeds, LeaveOutPointsThatMakeNoSense) {
  const RunConfig config = small_config();
  BenchPoint point = point_of(config, plan_of(8));
  point.settings["model"]["n_head"] = 5;
  BenchPoint other = point_of(config, plan_of(4));
  other.settings["model"]["n_layer"] = 1 << 30;
  BenchPoint third = point_of(config, plan_of(2));
  third.settings["dtype"] = "float33";
  EXPECT_FALSE(speeds_of(config, {point, other, third}).basis().known());
}

TEST(PlanSpeeds, AreJsonWithNullForWhatIsNotKnown) {
  const auto none = to_json(std::optional<SpeedEstimate>{}, SpeedBasis{});
  EXPECT_TRUE(none.at("tokens_per_second").is_null());
  EXPECT_TRUE(none.at("tokens_per_second_source").is_null());
  const SpeedBasis error{.model_points = 5,
                         .model_error = SpeedError{.median = 0.04, .worst = 0.2}};
  const auto model = to_json(SpeedEstimate{.tokens_per_second = 100.0}, error);
  EXPECT_EQ(model.at("tokens_per_second_source"), "model");
  EXPECT_EQ(model.at("tokens_per_second_error"), 0.04);
  const auto measured = to_json(SpeedEstimate{.tokens_per_second = 100.0, .measured = true}, error);
  EXPECT_EQ(measured.at("tokens_per_second_source"), "measured");
  EXPECT_TRUE(measured.at("tokens_per_second_error").is_null());
  EXPECT_EQ(speed_text(SpeedEstimate{.tokens_per_second = 1234.4}), "~1,234");
  EXPECT_EQ(speed_text(SpeedEstimate{.tokens_per_second = 1234.4, .measured = true}), "1,234");
}

TEST(KnownPoints, AreThoseOfTheCacheOfTheRunAndOfFiles) {
  const test::TempDir directory;
  const char* const before = std::getenv("GPT2TRAIN_CACHE_DIR");
  const std::string old = before == nullptr ? "" : before;
  setenv("GPT2TRAIN_CACHE_DIR", (directory / "cache").c_str(), 1);
  const RunConfig config = small_config();
  EXPECT_TRUE(known_points(directory / "out").empty());
  BenchFile(directory / "cache/bench.jsonl").append(point_of(config, plan_of(8)));
  BenchFile(directory / "out/bench.jsonl").append(point_of(config, plan_of(4)));
  BenchFile(directory / "other.jsonl").append(point_of(config, plan_of(2)));
  EXPECT_EQ(known_points(directory / "out").size(), 2u);
  EXPECT_EQ(known_points(directory / "out", {directory / "other.jsonl"}).size(), 3u);
  EXPECT_THROW(known_points(directory / "out", {directory / "missing.jsonl"}), DataError);
  if (before == nullptr) {
    unsetenv("GPT2TRAIN_CACHE_DIR");
  } else {
    setenv("GPT2TRAIN_CACHE_DIR", old.c_str(), 1);
  }
}

}  // namespace
}  // namespace gpt2train
