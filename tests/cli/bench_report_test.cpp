#include "src/cli/bench_report.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

BenchPoint measured(std::int64_t micro_batch, std::size_t mebibytes, double rate) {
  const std::size_t bytes = mebibytes * kMiB;
  return {.plan = {.micro_batch = micro_batch, .accumulation = 8 / micro_batch},
          .status = BenchPoint::Status::kMeasured,
          .predicted_peak_bytes = bytes,
          .predicted_reserved_bytes = bytes,
          .peak_bytes = bytes,
          .reserved_bytes = bytes,
          .tokens_per_second = {.lower_quartile = rate - 1, .median = rate, .upper_quartile = rate},
          .mfu = 0.5};
}

BenchPoint failed(BenchPoint::Status status) {
  return {.plan = {.micro_batch = 8, .accumulation = 1}, .status = status, .failure = "fc (8, 4)"};
}

std::vector<BenchPoint> sweep() {
  return {measured(4, 300, 2000.0), measured(1, 100, 1000.0), measured(2, 200, 900.0),
          failed(BenchPoint::Status::kDoesNotFit), failed(BenchPoint::Status::kOutOfMemory)};
}

TEST(BenchReport, FrontHasOnlyMeasuredPoints) {
  EXPECT_EQ(on_front(sweep()), (std::vector<bool>{true, true, false, false, false}));
}

TEST(BenchReport, TableMarksFrontAndFailures) {
  const std::string table = bench_table(sweep());
  EXPECT_NE(table.find("* float32             1"), std::string::npos) << table;
  EXPECT_NE(table.find("  float32             2"), std::string::npos) << table;
  EXPECT_NE(table.find("does not fit: fc (8, 4)"), std::string::npos) << table;
  EXPECT_NE(table.find("ran out of memory: fc (8, 4)"), std::string::npos) << table;
  EXPECT_LT(table.find("1,000"), table.find("2,000")) << "not by memory:\n" << table;
  EXPECT_EQ(table.find("NOT AS PREDICTED"), std::string::npos) << table;
}

TEST(BenchReport, TableShowsWhereAPredictionFailed) {
  std::vector<BenchPoint> points = {measured(1, 100, 1000.0)};
  points[0].reserved_bytes += 2 * kMiB;
  EXPECT_NE(bench_table(points).find("NOT AS PREDICTED: 100.00 MiB and 100.00 MiB"),
            std::string::npos);
}

TEST(BenchReport, CsvHasAsManyCellsInEveryLine) {
  const std::string csv = bench_csv(sweep());
  std::size_t lines = 0;
  for (std::size_t at = 0; at < csv.size(); at = csv.find('\n', at) + 1, ++lines) {
    const std::string line = csv.substr(at, csv.find('\n', at) - at);
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), 13) << line;
  }
  EXPECT_EQ(lines, 6u);
}

TEST(BenchReport, JsonSaysWhatIsOnTheFront) {
  const auto json = bench_json(sweep());
  ASSERT_EQ(json.size(), 5u);
  EXPECT_EQ(json[0].at("on_front"), true);
  EXPECT_EQ(json[2].at("on_front"), false);
  EXPECT_EQ(json[3].at("status"), "does_not_fit");
  EXPECT_FALSE(json[3].contains("tokens_per_second"));
}

TEST(BenchReport, PlotHasTheMeasuredPoints) {
  const ScatterPlot plot = bench_plot(sweep(), "here");
  ASSERT_EQ(plot.points.size(), 3u);
  EXPECT_EQ(plot.series.size(), 1u);
  EXPECT_EQ(plot.points[0].x, 300.0);
  EXPECT_EQ(plot.points[0].y, 2000.0);
  EXPECT_EQ(plot.points[0].label, "4");
  EXPECT_TRUE(plot.points[0].on_front);
  EXPECT_EQ(plot.x_label, "peak memory, MiB");
}

}  // namespace
}  // namespace gpt2train
