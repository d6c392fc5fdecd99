#include "src/cli/bench_point.h"

#include <gtest/gtest.h>

#include "gpt2train/core/error.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

constexpr Plan kPlan{.micro_batch = 4, .accumulation = 3, .recompute = Recompute::kGeluLayerNorm};

Json settings_of(const RunConfig& config, const std::string& version = "1",
                 const Plan& plan = kPlan, const BenchMethod& method = {}) {
  Prediction prediction;
  prediction.stats.peak_allocated_bytes = 1000;
  prediction.stats.peak_reserved_bytes = 2000;
  return bench_settings(version, "cpu", "a processor", config, plan, method, prediction);
}

BenchPoint a_point() {
  return {.settings = settings_of({}),
          .date = "2026-11-21T12:00:00Z",
          .dtype = DType::kBFloat16,
          .plan = kPlan,
          .status = BenchPoint::Status::kMeasured,
          .budget_bytes = 5000,
          .predicted_peak_bytes = 1000,
          .predicted_reserved_bytes = 2000,
          .peak_bytes = 1000,
          .reserved_bytes = 2000,
          .step_seconds = {0.1, 0.3, 0.2},
          .update_seconds = 0.01,
          .peak_flops_per_second = 1e12,
          .tokens_per_second = {.lower_quartile = 10.5, .median = 11.25, .upper_quartile = 12.1},
          .mfu = 0.3};
}

TEST(BenchPoint, IsTheSameAfterJson) {
  for (const auto status : {BenchPoint::Status::kMeasured, BenchPoint::Status::kOutOfMemory,
                            BenchPoint::Status::kDoesNotFit}) {
    BenchPoint point = a_point();
    point.status = status;
    if (status != BenchPoint::Status::kMeasured) point.failure = "logits (4, 5)";
    const BenchPoint again = bench_point_of(Json::parse(to_json(point).dump()));
    EXPECT_EQ(again.status, status);
    EXPECT_EQ(again.plan, kPlan);
    EXPECT_EQ(again.dtype, DType::kBFloat16);
    EXPECT_EQ(to_json(again), to_json(point));
  }
}

TEST(BenchPoint, SaysWhatItsFiguresDependOn) {
  const Json settings = settings_of({});
  EXPECT_EQ(settings.at("model").at("n_embd"), 768);
  EXPECT_EQ(settings.at("memory").at("moments"), "float32");
  EXPECT_EQ(settings.at("recompute"), "gelu+layernorm");
  for (const char* name : {"out_dir", "data", "optimizer", "evaluation"}) {
    EXPECT_FALSE(settings.contains(name)) << name;
  }
}

TEST(BenchPoint, SettingsDifferWhereFiguresMay) {
  const Json settings = settings_of({});
  RunConfig config;
  config.model.n_layer = 7;
  EXPECT_NE(settings_of(config), settings);
  config = {};
  config.dtype = DType::kFloat32;
  EXPECT_NE(settings_of(config), settings);
  config = {};
  config.memory.segments = Segments::kExpandable;
  EXPECT_NE(settings_of(config), settings);
  EXPECT_NE(settings_of({}, "2"), settings);
  EXPECT_NE(settings_of({}, "1", {.micro_batch = 2, .accumulation = 6}), settings);
  EXPECT_NE(settings_of({}, "1", kPlan, {.warmup = 2, .steps = 6}), settings);
  config = {};
  config.out_dir = "elsewhere";
  config.seed = 5;
  config.data.train = "other.bin";
  config.optimizer.learning_rate = 1.0;
  EXPECT_EQ(settings_of(config), settings);
}

// A step of 12 sequences of 1,024 tokens: 3 micro-batches of 1 s, and an update of half a second.
TEST(TokensPerSecond, CountTheUpdateOnceAStep) {
  const Spread rate = tokens_per_second({}, kPlan, 2, {2.5, 2.5, 4.5}, 0.5);
  EXPECT_DOUBLE_EQ(rate.median, 12 * 1024 / 3.5);
  EXPECT_DOUBLE_EQ(rate.upper_quartile, 12 * 1024 / 3.5);
  EXPECT_DOUBLE_EQ(rate.lower_quartile, 12 * 1024 * (1 / 3.5 + 1 / 6.5) / 2);
  EXPECT_DOUBLE_EQ(tokens_per_second({}, kPlan, 3, {3.5}, 0.5).median, 12 * 1024 / 3.5);
}

TEST(BenchFile, FindsWhatAnEarlierOneKept) {
  const test::TempDir directory;
  const std::string path = directory / "new/bench.jsonl";
  const BenchPoint point = a_point();
  EXPECT_FALSE(BenchFile(path).find(point.settings));
  BenchFile(path).append(point);
  const auto found = BenchFile(path).find(point.settings);
  ASSERT_TRUE(found);
  EXPECT_EQ(to_json(*found), to_json(point));
  EXPECT_FALSE(BenchFile(path).find(settings_of({}, "2")));
}

TEST(BenchFile, TakesTheNewestOfEquals) {
  const test::TempDir directory;
  BenchFile file(directory / "bench.jsonl");
  BenchPoint point = a_point();
  file.append(point);
  point.mfu = 0.5;
  file.append(point);
  EXPECT_EQ(file.find(point.settings)->mfu, 0.5);
  EXPECT_EQ(BenchFile(directory / "bench.jsonl").find(point.settings)->mfu, 0.5);
}

TEST(BenchFile, HasPointsMeasuredAgainThatFailedOrSurprised) {
  const test::TempDir directory;
  BenchFile file(directory / "bench.jsonl");
  BenchPoint point = a_point();
  point.peak_bytes += 512;
  file.append(point);
  EXPECT_FALSE(file.find(point.settings));
  point = a_point();
  point.status = BenchPoint::Status::kOutOfMemory;
  file.append(point);
  EXPECT_FALSE(file.find(point.settings));
}

TEST(BenchFile, SurvivesATornLine) {
  const test::TempDir directory;
  const std::string path = directory / "bench.jsonl";
  const BenchPoint point = a_point();
  const std::string line = to_json(point).dump();
  test::write_file(path, "not JSON\n{}\n" + line.substr(0, line.size() / 2));
  BenchFile(path).append(point);
  EXPECT_TRUE(BenchFile(path).find(point.settings)) << test::read_file(path);
}

TEST(BenchFile, NamesThePathThatCannotBeWritten) {
  const test::TempDir directory;
  test::write_file(directory / "file", "");
  EXPECT_THROW(BenchFile(directory / "file/bench.jsonl"), CheckpointError);
}

}  // namespace
}  // namespace gpt2train
