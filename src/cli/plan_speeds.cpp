#include "src/cli/plan_speeds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

// More would make `plan` wait for their dry runs, and tell little more.
constexpr std::size_t kMostModelPoints = 64;

// Two configs whose ops run at the same rates on one machine.
bool computes_alike(const RunConfig& a, const RunConfig& b) {
  return a.dtype == b.dtype && a.tf32 == b.tf32 && a.tune_matmul == b.tune_matmul &&
         a.cuda_graphs == b.cuda_graphs && a.attention == b.attention &&
         a.memory.offload == b.memory.offload;
}

std::string model_key(const RunConfig& config) {
  return speed_settings(config, {}).at("model").dump();
}

struct KnownPoint {
  const BenchPoint* point;
  RunConfig config;
  std::string model;
};

// Those that tell of this machine and this way to compute; of points with the same settings the
// newest; oldest first.
std::vector<KnownPoint> points_of(const Machine& machine, const RunConfig& config,
                                  const std::vector<BenchPoint>& points) {
  std::map<std::string, KnownPoint> newest;
  for (const BenchPoint& point : points) {
    if (point.status != BenchPoint::Status::kMeasured || !(point.update_seconds > 0.0) ||
        point.settings.value("backend", "") != machine.backend ||
        point.settings.value("device", "") != machine.device) {
      continue;
    }
    std::optional<RunConfig> own = config_of(point);
    if (!own || !computes_alike(*own, config)) continue;
    const auto [found, first] = newest.try_emplace(speed_settings(*own, point.plan).dump());
    if (!first && found->second.point->date > point.date) continue;
    const std::string model = model_key(*own);
    found->second = {.point = &point, .config = std::move(*own), .model = model};
  }
  std::vector<KnownPoint> known;
  for (auto& [key, point] : newest) known.push_back(std::move(point));
  std::stable_sort(known.begin(), known.end(), [](const KnownPoint& a, const KnownPoint& b) {
    return a.point->date < b.point->date;
  });
  return known;
}

SpeedSample sample_of(const KernelTable& kernels, const KnownPoint& known) {
  const BenchPoint& point = *known.point;
  const double tokens =
      static_cast<double>(known.config.training.effective_batch() * known.config.model.block_size);
  return {.work = step_work(kernels, known.config, point.plan),
          .accumulation = point.plan.accumulation,
          .step_seconds = tokens / point.tokens_per_second.median,
          .update_seconds = point.update_seconds,
          .peak_flops_per_second = point.peak_flops_per_second,
          .group = known.model};
}

}  // namespace

PlanSpeeds::PlanSpeeds(const KernelTable& kernels, const RunConfig& config, const Machine& machine,
                       const std::vector<BenchPoint>& points)
    : kernels_(kernels) {
  std::vector<KnownPoint> known = points_of(machine, config, points);
  for (const KnownPoint& point : known) {
    const BenchPoint& bench = *point.point;
    measured_[speed_settings(point.config, bench.plan).dump()] = {
        .timed_accumulation = bench.settings.at("timed_accumulation"),
        .step_seconds = bench.step_seconds,
        .update_seconds = bench.update_seconds};
  }
  const auto own = std::stable_partition(
      known.begin(), known.end(),
      [other = model_key(config)](const KnownPoint& point) { return point.model != other; });
  basis_.measured_points = static_cast<std::size_t>(known.end() - own);
  const bool keeps_to_own = basis_.measured_points >= 2;
  if (keeps_to_own) known.erase(known.begin(), own);
  if (known.size() < 2) return;
  if (known.size() > kMostModelPoints) known.erase(known.begin(), known.end() - kMostModelPoints);
  std::vector<SpeedSample> samples;
  for (const KnownPoint& point : known) samples.push_back(sample_of(kernels, point));
  for (std::size_t i = 0; keeps_to_own && i < samples.size(); ++i) {
    samples[i].group = std::to_string(i);
  }
  model_ = fit_speed(samples);
  basis_.model_points = samples.size();
  basis_.model_error = left_out_error(samples);
}

std::optional<SpeedEstimate> PlanSpeeds::of(const RunConfig& config, const Plan& plan) const {
  if (measured_.empty()) return std::nullopt;
  const auto found = measured_.find(speed_settings(config, plan).dump());
  if (found != measured_.end()) {
    const Measured& point = found->second;
    const Spread rate = tokens_per_second(config, plan, point.timed_accumulation,
                                          point.step_seconds, point.update_seconds);
    return SpeedEstimate{.tokens_per_second = rate.median, .measured = true};
  }
  if (!model_) return std::nullopt;
  const double seconds = model_->step_seconds(step_work(kernels_, config, plan), plan.accumulation);
  const auto tokens =
      static_cast<double>(plan.micro_batch * plan.accumulation * config.model.block_size);
  return SpeedEstimate{.tokens_per_second = tokens / seconds, .measured = false};
}

std::vector<BenchPoint> known_points(const std::string& out_dir,
                                     const std::vector<std::string>& files) {
  std::vector<BenchPoint> points;
  const auto add = [&](const std::string& path) {
    std::vector<BenchPoint> some = read_bench_points(path);
    std::move(some.begin(), some.end(), std::back_inserter(points));
  };
  add(bench_cache_path());
  add(out_dir + "/bench.jsonl");
  for (const std::string& file : files) {
    if (!std::filesystem::is_regular_file(file)) {
      throw DataError(file, "expected a file of points as bench writes it, found none");
    }
    add(file);
  }
  return points;
}

nlohmann::ordered_json to_json(const std::optional<SpeedEstimate>& estimate,
                               const SpeedBasis& basis) {
  nlohmann::ordered_json json = {{"tokens_per_second", nullptr},
                                 {"tokens_per_second_source", nullptr},
                                 {"tokens_per_second_error", nullptr}};
  if (!estimate) return json;
  json["tokens_per_second"] = estimate->tokens_per_second;
  json["tokens_per_second_source"] = estimate->measured ? "measured" : "model";
  if (!estimate->measured && basis.model_error) {
    json["tokens_per_second_error"] = basis.model_error->median;
  }
  return json;
}

nlohmann::ordered_json to_json(const SpeedBasis& basis) {
  nlohmann::ordered_json json = {{"measured_points", basis.measured_points},
                                 {"model_points", basis.model_points},
                                 {"model_median_error", nullptr},
                                 {"model_worst_error", nullptr}};
  if (basis.model_error) {
    json["model_median_error"] = basis.model_error->median;
    json["model_worst_error"] = basis.model_error->worst;
  }
  return json;
}

std::string speed_text(const std::optional<SpeedEstimate>& estimate) {
  if (!estimate) return "-";
  const std::string rate = with_commas(std::llround(estimate->tokens_per_second));
  return estimate->measured ? rate : '~' + rate;
}

std::string speed_note(const SpeedBasis& basis) {
  std::string note = "tokens/s: as bench measured";
  if (basis.model_points == 0) return note + "; a second point would tell of other plans";
  note += fmt::format(", or ~ by a model of {} measured points", basis.model_points);
  if (!basis.model_error) return note + " of another model: its error is not known";
  return note +
         fmt::format("; for a point left out it is off by {:.1f} % (median), {:.1f} % at worst",
                     100.0 * basis.model_error->median, 100.0 * basis.model_error->worst);
}

}  // namespace gpt2train
