#include "src/cli/plan_speeds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "gpt2train/config/devices.h"
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
  std::string device;
  RunConfig config;
  std::string model;
};

// Those that tell of this way to compute; of points with the same settings on one device the
// newest; oldest first.
std::vector<KnownPoint> points_of(const std::string& backend, const RunConfig& config,
                                  const std::vector<BenchPoint>& points) {
  std::map<std::string, KnownPoint> newest;
  for (const BenchPoint& point : points) {
    if (point.status != BenchPoint::Status::kMeasured || !(point.update_seconds > 0.0) ||
        point.settings.value("backend", "") != backend) {
      continue;
    }
    std::optional<RunConfig> own = config_of(point);
    if (!own || !computes_alike(*own, config)) continue;
    const std::string device = point.settings.value("device", "");
    const auto [found, first] =
        newest.try_emplace(device + speed_settings(*own, point.plan).dump());
    if (!first && found->second.point->date > point.date) continue;
    const std::string model = model_key(*own);
    found->second = {.point = &point, .device = device, .config = std::move(*own), .model = model};
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

std::vector<KnownPoint> of_device(const std::vector<KnownPoint>& points,
                                  const std::string& device) {
  std::vector<KnownPoint> own;
  std::copy_if(points.begin(), points.end(), std::back_inserter(own),
               [&](const KnownPoint& point) { return point.device == device; });
  return own;
}

// Rates of one card as multiples of another's.
struct Ratios {
  double flops = 1.0, bytes = 1.0;

  double distance() const { return std::abs(std::log(flops)) + std::abs(std::log(bytes)); }
};

double flops_of(const DeviceSpec& card, const RunConfig& config) {
  if (config.dtype != DType::kFloat32) return card.half_flops;
  return config.tf32 ? card.tf32_flops : card.float32_flops;
}

Ratios ratios_of(const DeviceSpec& card, const DeviceSpec& other, const RunConfig& config) {
  return {.flops = flops_of(card, config) / flops_of(other, config),
          .bytes = card.bytes_per_second / other.bytes_per_second};
}

// The card that plans are for, as far as the catalogue has it.
std::optional<DeviceSpec> card_of(const Machine& machine, const RunConfig& config) {
  if (!machine.device.empty()) return find_driver_device(machine.device);
  if (config.memory.device.empty()) return std::nullopt;
  return find_device(config.memory.device, "memory.device");
}

// Another card that was measured, the one most like this.
struct SimilarCard {
  std::string device;
  Ratios ratios = {};  // of this card to that one
};

std::optional<SimilarCard> similar_card(const DeviceSpec& card, const RunConfig& config,
                                        const std::vector<KnownPoint>& points) {
  std::map<std::string, std::size_t> counts;
  for (const KnownPoint& point : points) ++counts[point.device];
  std::optional<SimilarCard> best;
  for (const auto& [device, count] : counts) {
    const std::optional<DeviceSpec> other = find_driver_device(device);
    if (count < 2 || !other) continue;
    const Ratios ratios = ratios_of(card, *other, config);
    if (!best || ratios.distance() < best->ratios.distance()) best = {device, ratios};
  }
  return best;
}

}  // namespace

PlanSpeeds::PlanSpeeds(const KernelTable& kernels, const RunConfig& config, const Machine& machine,
                       const std::vector<BenchPoint>& points)
    : kernels_(kernels) {
  const std::vector<KnownPoint> all = points_of(machine.backend, config, points);
  std::vector<KnownPoint> known;
  std::optional<SimilarCard> similar;
  if (!machine.device.empty()) known = of_device(all, machine.device);
  for (const KnownPoint& point : known) {
    const BenchPoint& bench = *point.point;
    measured_[speed_settings(point.config, bench.plan).dump()] = {
        .timed_accumulation = bench.settings.at("timed_accumulation"),
        .step_seconds = bench.step_seconds,
        .update_seconds = bench.update_seconds};
  }
  if (known.empty()) {
    if (const auto card = card_of(machine, config)) similar = similar_card(*card, config, all);
    if (similar) known = of_device(all, similar->device);
  }
  const auto own = std::stable_partition(
      known.begin(), known.end(),
      [other = model_key(config)](const KnownPoint& point) { return point.model != other; });
  const auto own_points = static_cast<std::size_t>(known.end() - own);
  if (!similar) basis_.measured_points = own_points;
  const bool keeps_to_own = own_points >= 2;
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
  if (!similar) return;
  model_ = model_->scaled(similar->ratios.flops, similar->ratios.bytes);
  basis_.scaled_from = similar->device;
}

std::optional<SpeedEstimate> PlanSpeeds::of(const RunConfig& config, const Plan& plan) const {
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
  const char* const source = !basis.scaled_from.empty() ? "scaled"
                             : estimate->measured       ? "measured"
                                                        : "model";
  json["tokens_per_second_source"] = source;
  // How far two cards' rates are from what the catalogue has of them nobody has measured.
  if (source == std::string_view("model") && basis.model_error) {
    json["tokens_per_second_error"] = basis.model_error->median;
  }
  return json;
}

nlohmann::ordered_json to_json(const SpeedBasis& basis) {
  nlohmann::ordered_json json = {{"measured_points", basis.measured_points},
                                 {"model_points", basis.model_points},
                                 {"model_median_error", nullptr},
                                 {"model_worst_error", nullptr},
                                 {"scaled_from", nullptr}};
  if (basis.model_error) {
    json["model_median_error"] = basis.model_error->median;
    json["model_worst_error"] = basis.model_error->worst;
  }
  if (!basis.scaled_from.empty()) json["scaled_from"] = basis.scaled_from;
  return json;
}

std::string speed_text(const std::optional<SpeedEstimate>& estimate) {
  if (!estimate) return "-";
  const std::string rate = with_commas(std::llround(estimate->tokens_per_second));
  return estimate->measured ? rate : '~' + rate;
}

std::string speed_note(const SpeedBasis& basis) {
  if (!basis.scaled_from.empty()) {
    std::string note = fmt::format(
        "tokens/s: ~ by a model of {} points that were measured on {}, at this card's rates in the "
        "catalogue; how far such figures are off has not been measured",
        basis.model_points, basis.scaled_from);
    if (!basis.model_error) return note;
    return note +
           fmt::format(", on that card the median is {:.1f} %", 100.0 * basis.model_error->median);
  }
  std::string note = "tokens/s: as bench measured";
  if (basis.model_points == 0) return note + "; a second point would tell of other plans";
  note += fmt::format(", or ~ by a model of {} measured points", basis.model_points);
  if (!basis.model_error) return note + " of another model: its error is not known";
  return note +
         fmt::format("; for a point left out it is off by {:.1f} % (median), {:.1f} % at worst",
                     100.0 * basis.model_error->median, 100.0 * basis.model_error->worst);
}

}  // namespace gpt2train
