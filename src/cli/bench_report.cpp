#include "src/cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "gpt2train/core/units.h"
#include "src/config/text.h"

namespace gpt2train {
namespace {

bool measured(const BenchPoint& point) {
  return point.status == BenchPoint::Status::kMeasured;
}

std::string rate_text(double tokens_per_second) {
  return with_commas(std::llround(tokens_per_second));
}

std::string verdict(const BenchPoint& point) {
  const std::string& what = point.failure;
  switch (point.status) {
    case BenchPoint::Status::kDoesNotFit:
      return fmt::format("does not fit{}{}", what.empty() ? "" : ": ", what);
    case BenchPoint::Status::kOutOfMemory:
      return fmt::format("ran out of memory: {}", what);
    case BenchPoint::Status::kMeasured:
      break;
  }
  const Spread& rate = point.tokens_per_second;
  std::string line = fmt::format(
      "{:>10}  {:<19} {:>5.1f}% {:>12} {:>12}", rate_text(rate.median),
      fmt::format("({} - {})", rate_text(rate.lower_quartile), rate_text(rate.upper_quartile)),
      100.0 * point.mfu, human_bytes(point.peak_bytes), human_bytes(point.reserved_bytes));
  if (point.as_predicted()) return line + "  =";
  return line + fmt::format("  NOT AS PREDICTED: {} and {}",
                            human_bytes(point.predicted_peak_bytes),
                            human_bytes(point.predicted_reserved_bytes));
}

}  // namespace

std::vector<bool> on_front(const std::vector<BenchPoint>& points) {
  std::vector<Outcome> outcomes;
  for (const BenchPoint& point : points) {
    if (!measured(point)) continue;
    outcomes.push_back(
        {.cost = static_cast<double>(point.peak_bytes), .gain = point.tokens_per_second.median});
  }
  const std::vector<bool> front = pareto_front(outcomes);
  std::vector<bool> all;
  std::size_t next = 0;
  for (const BenchPoint& point : points) all.push_back(measured(point) && front[next++]);
  return all;
}

std::string bench_table(const std::vector<BenchPoint>& points) {
  const std::vector<bool> front = on_front(points);
  std::vector<std::size_t> order(points.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const auto rank = [](const BenchPoint& point) {
      return std::pair(point.dtype, point.predicted_peak_bytes);
    };
    // What does not fit was not followed to its peak: it has no place by memory.
    const bool fits_a = points[a].status != BenchPoint::Status::kDoesNotFit;
    const bool fits_b = points[b].status != BenchPoint::Status::kDoesNotFit;
    return fits_a != fits_b ? fits_a : fits_a && rank(points[a]) < rank(points[b]);
  });
  std::string text =
      fmt::format("  {:<9} {:>11}  {:<15} {:>10}  {:<19} {:>6} {:>12} {:>12}\n", "dtype",
                  "micro-batch", "recompute", "tokens/s", "(quartiles)", "mfu", "peak", "reserved");
  for (const std::size_t i : order) {
    const BenchPoint& point = points[i];
    text += fmt::format("{} {:<9} {:>11}  {:<15} {}\n", front[i] ? '*' : ' ', text_of(point.dtype),
                        point.plan.micro_batch, name_of(point.plan.recompute), verdict(point));
  }
  return text + "* nothing faster takes as little memory   = memory is as predicted, to the byte\n";
}

nlohmann::ordered_json bench_json(const std::vector<BenchPoint>& points) {
  const std::vector<bool> front = on_front(points);
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < points.size(); ++i) {
    nlohmann::ordered_json json = to_json(points[i]);
    json["as_predicted"] = points[i].as_predicted();
    json["on_front"] = bool{front[i]};
    list.push_back(std::move(json));
  }
  return list;
}

std::string bench_csv(const std::vector<BenchPoint>& points) {
  const std::vector<bool> front = on_front(points);
  std::string text =
      "dtype,micro_batch,accumulation,recompute,status,tokens_per_second,lower_quartile,"
      "upper_quartile,mfu,peak_bytes,predicted_peak_bytes,reserved_bytes,predicted_reserved_bytes,"
      "on_front\n";
  for (std::size_t i = 0; i < points.size(); ++i) {
    const BenchPoint& point = points[i];
    text +=
        fmt::format("{},{},{},{},{},", text_of(point.dtype), point.plan.micro_batch,
                    point.plan.accumulation, name_of(point.plan.recompute), name_of(point.status));
    const Spread& rate = point.tokens_per_second;
    text += measured(point)
                ? fmt::format("{:.6g},{:.6g},{:.6g},{:.4f},{},{},{},{},{}\n", rate.median,
                              rate.lower_quartile, rate.upper_quartile, point.mfu, point.peak_bytes,
                              point.predicted_peak_bytes, point.reserved_bytes,
                              point.predicted_reserved_bytes, front[i] ? 1 : 0)
                : ",,,,,,,,\n";
  }
  return text;
}

ScatterPlot bench_plot(const std::vector<BenchPoint>& points, const std::string& subtitle) {
  std::size_t most = 0;
  std::set<DType> dtypes;
  std::set<std::pair<DType, Recompute>> series;
  for (const BenchPoint& point : points) {
    if (!measured(point)) continue;
    most = std::max(most, point.peak_bytes);
    dtypes.insert(point.dtype);
    series.insert({point.dtype, point.plan.recompute});
  }
  const bool large = most >= 2 * kGiB;
  const double unit = static_cast<double>(large ? kGiB : kMiB);
  ScatterPlot plot{.title = "Training speed against memory",
                   .subtitle = subtitle,
                   .x_label = fmt::format("peak memory, {}", large ? "GiB" : "MiB"),
                   .y_label = "tokens/s: median and quartiles",
                   .front_label = "fastest for its memory"};
  for (const auto& [dtype, recompute] : series) {
    plot.series.push_back(
        {.name = fmt::format("{} {}", dtypes.size() == 1 ? "recompute" : name_of(dtype),
                             name_of(recompute)),
         .colour = static_cast<std::size_t>(recompute),
         .shape = static_cast<std::size_t>(dtype)});
  }
  const std::vector<bool> front = on_front(points);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const BenchPoint& point = points[i];
    if (!measured(point)) continue;
    const auto at = series.find({point.dtype, point.plan.recompute});
    plot.points.push_back(
        {.x = static_cast<double>(point.peak_bytes) / unit,
         .y = point.tokens_per_second.median,
         .y_low = point.tokens_per_second.lower_quartile,
         .y_high = point.tokens_per_second.upper_quartile,
         .series = static_cast<std::size_t>(std::distance(series.begin(), at)),
         .label = fmt::format("{}", point.plan.micro_batch),
         .title = fmt::format("micro-batch {}, recompute {}, {}: {} tokens/s, {}",
                              point.plan.micro_batch, name_of(point.plan.recompute),
                              name_of(point.dtype), rate_text(point.tokens_per_second.median),
                              human_bytes(point.peak_bytes)),
         .on_front = front[i]});
  }
  return plot;
}

}  // namespace gpt2train
