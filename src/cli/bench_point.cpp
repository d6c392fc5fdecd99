#include "src/cli/bench_point.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <type_traits>

#include "gpt2train/config/fields.h"
#include "gpt2train/core/cache_folder.h"
#include "gpt2train/core/error.h"
#include "src/config/text.h"
#include "src/train/json.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

// Neither speed nor memory of a step depends on these, or a point says them in its own words.
const std::set<std::string> kLeftOut = {
    "out_dir",     "init_from",     "seed",         "device",           "data",
    "training",    "evaluation",    "optimizer",    "checkpoint",       "memory.limit",
    "memory.plan", "memory.device", "memory.trace", "memory.recompute", "memory.recompute_layers",
    "memory.grow", "memory.tune",   "logging"};

bool left_out(const std::string& section, const std::string& path) {
  return kLeftOut.contains(path) || kLeftOut.contains(section);
}

// Writes settings as JSON, section by section.
struct SettingsWriter {
  Json& json;
  std::string section_name = {};

  void section(const char* name) { section_name = name; }

  template <class Value, class... Rest>
  void operator()(const char* name, const Value& value, const Rest&...) {
    const bool top = section_name.empty();
    const std::string path = top ? name : section_name + "." + name;
    if (left_out(section_name, path)) return;
    Json& object = top ? json : json[section_name];
    if constexpr (std::is_arithmetic_v<Value>) {
      object[name] = value;
    } else {
      object[name] = text_of(value);
    }
  }
};

// Reads what SettingsWriter wrote.
struct SettingsReader {
  const Json& json;
  std::string section_name = {};
  bool valid = true;

  void section(const char* name) { section_name = name; }

  template <class Value>
  void operator()(const char* name, Value& value, const char*, Range range = {}) {
    const bool top = section_name.empty();
    if (left_out(section_name, top ? name : section_name + "." + name)) return;
    if (!top && !json.contains(section_name)) return;
    const Json& object = top ? json : json.at(section_name);
    if (!object.contains(name)) return;
    if constexpr (std::is_arithmetic_v<Value>) {
      value = object.at(name).template get<Value>();
    } else {
      valid &= parse(object.at(name).template get<std::string>(), value);
    }
    valid &= contains(range, value);
  }
};

BenchPoint::Status status_of(const std::string& name) {
  for (const auto status : {BenchPoint::Status::kMeasured, BenchPoint::Status::kDoesNotFit}) {
    if (name == name_of(status)) return status;
  }
  return BenchPoint::Status::kOutOfMemory;
}

}  // namespace

const char* name_of(BenchPoint::Status status) {
  switch (status) {
    case BenchPoint::Status::kMeasured:
      return "measured";
    case BenchPoint::Status::kDoesNotFit:
      return "does_not_fit";
    case BenchPoint::Status::kOutOfMemory:
      return "out_of_memory";
  }
  return "?";
}

Json bench_settings(const std::string& version, const std::string& backend,
                    const std::string& device, const RunConfig& config, const Plan& plan,
                    const BenchMethod& method, const Prediction& prediction) {
  Json json = {{"version", version}, {"backend", backend}, {"device", device}};
  json.update(to_json(plan));
  visit_fields(SettingsWriter{json}, config);
  json["parameters"] = parameter_count(config.model);
  json["warmup"] = method.warmup;
  json["steps"] = method.steps;
  json["timed_accumulation"] = std::min(method.accumulation, plan.accumulation);
  // They depend on the budget as well, where it is tight.
  json["predicted_peak_bytes"] = prediction.stats.peak_allocated_bytes;
  json["predicted_reserved_bytes"] = prediction.stats.peak_reserved_bytes;
  return json;
}

Json speed_settings(const RunConfig& config, const Plan& plan) {
  Json json = to_json(plan);
  json.erase("accumulation");
  visit_fields(SettingsWriter{json}, config);
  return json;
}

std::optional<RunConfig> config_of(const BenchPoint& point) {
  RunConfig config;
  SettingsReader reader{point.settings};
  try {
    visit_fields(reader, config);
  } catch (const Json::exception&) {
    return std::nullopt;
  }
  const bool divides = config.model.n_embd % config.model.n_head == 0;
  if (!reader.valid || !divides || point.plan.micro_batch < 1 || point.plan.accumulation < 1) {
    return std::nullopt;
  }
  config.training.batch_size = point.plan.micro_batch;
  config.training.gradient_accumulation_steps = point.plan.accumulation;
  config.memory.recompute = point.plan.recompute;
  config.memory.recompute_layers = point.plan.block_layers;
  return config;
}

Spread tokens_per_second(const RunConfig& config, const Plan& plan, std::int64_t timed,
                         const std::vector<double>& step_seconds, double update_seconds) {
  const auto accumulation = static_cast<double>(plan.accumulation);
  const double tokens = accumulation * static_cast<double>(plan.micro_batch) *
                        static_cast<double>(config.model.block_size);
  std::vector<double> rates;
  for (const double seconds : step_seconds) {
    const double once = std::min(update_seconds, seconds);
    const double micro_batch = (seconds - once) / static_cast<double>(timed);
    rates.push_back(tokens / (accumulation * micro_batch + once));
  }
  return spread_of(std::move(rates));
}

Json to_json(const BenchPoint& point) {
  Json json = {
      {"date", point.date}, {"status", name_of(point.status)}, {"dtype", text_of(point.dtype)}};
  json.update(to_json(point.plan));
  if (point.budget_bytes != CachingAllocator::kNoBudget) json["budget_bytes"] = point.budget_bytes;
  json["predicted_peak_bytes"] = point.predicted_peak_bytes;
  json["predicted_reserved_bytes"] = point.predicted_reserved_bytes;
  if (point.status == BenchPoint::Status::kMeasured) {
    json["peak_bytes"] = point.peak_bytes;
    json["reserved_bytes"] = point.reserved_bytes;
    json["tokens_per_second"] = {{"median", point.tokens_per_second.median},
                                 {"lower_quartile", point.tokens_per_second.lower_quartile},
                                 {"upper_quartile", point.tokens_per_second.upper_quartile}};
    json["mfu"] = point.mfu;
    json["peak_flops_per_second"] = point.peak_flops_per_second;
    json["step_seconds"] = point.step_seconds;
    json["update_seconds"] = point.update_seconds;
  } else {
    json["failure"] = point.failure;
  }
  json["settings"] = point.settings;
  return json;
}

BenchPoint bench_point_of(const Json& json) {
  BenchPoint point{.settings = json.at("settings"),
                   .date = json.at("date"),
                   .plan = {.micro_batch = json.at("micro_batch"),
                            .accumulation = json.at("accumulation"),
                            .recompute = Recompute::kNone,
                            .block_layers = json.value("recompute_layers", std::int64_t{0})},
                   .status = status_of(json.at("status")),
                   .failure = json.value("failure", ""),
                   .budget_bytes = json.value("budget_bytes", CachingAllocator::kNoBudget),
                   .predicted_peak_bytes = json.at("predicted_peak_bytes"),
                   .predicted_reserved_bytes = json.at("predicted_reserved_bytes")};
  parse(json.at("dtype").get<std::string>(), point.dtype);
  for (const Recompute level : kRecomputeLevels) {
    if (json.at("recompute") == name_of(level)) point.plan.recompute = level;
  }
  if (point.status != BenchPoint::Status::kMeasured) return point;
  point.peak_bytes = json.at("peak_bytes");
  point.reserved_bytes = json.at("reserved_bytes");
  const Json& rate = json.at("tokens_per_second");
  point.tokens_per_second = {.lower_quartile = rate.at("lower_quartile"),
                             .median = rate.at("median"),
                             .upper_quartile = rate.at("upper_quartile")};
  point.mfu = json.at("mfu");
  point.peak_flops_per_second = json.at("peak_flops_per_second");
  point.step_seconds = json.at("step_seconds").get<std::vector<double>>();
  point.update_seconds = json.at("update_seconds");
  return point;
}

std::vector<BenchPoint> read_bench_points(const std::string& path) {
  std::vector<BenchPoint> points;
  std::ifstream lines(path);
  for (std::string line; std::getline(lines, line);) {
    try {
      points.push_back(bench_point_of(Json::parse(line)));
    } catch (const Json::exception&) {
      continue;
    }
  }
  return points;
}

std::string bench_cache_path() {
  const std::string folder = cache_folder();
  return folder.empty() ? "" : folder + "/bench.jsonl";
}

BenchFile::BenchFile(const std::string& path) : path_(path), points_(read_bench_points(path)) {
  std::error_code error;
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  if (!directory.empty()) std::filesystem::create_directories(directory, error);
  if (error) throw CheckpointError(directory, "cannot be made: " + error.message());
  std::ifstream there(path, std::ios::binary | std::ios::ate);
  const bool some = there && there.tellg() > 0;
  // A program that was killed may leave half a line, and no end of it.
  const bool torn = some && there.seekg(-1, std::ios::end).get() != '\n';
  file_.reset(std::fopen(path.c_str(), "ae"));
  if (!file_) throw CheckpointError(path, concat("cannot be written: ", std::strerror(errno)));
  if (torn) std::fputc('\n', file_.get());
}

std::optional<BenchPoint> BenchFile::find(const Json& settings) const {
  const auto newest = std::find_if(points_.rbegin(), points_.rend(), [&](const BenchPoint& point) {
    return point.status == BenchPoint::Status::kMeasured && point.as_predicted() &&
           point.settings == settings;
  });
  if (newest == points_.rend()) return std::nullopt;
  return *newest;
}

void BenchFile::append(const BenchPoint& point) {
  points_.push_back(point);
  std::fputs((to_json(point).dump() + '\n').c_str(), file_.get());
  if (std::fflush(file_.get()) != 0) {
    throw CheckpointError(path_, concat("cannot be written: ", std::strerror(errno)));
  }
}

void remember_point(const BenchPoint& point) {
  const std::string path = bench_cache_path();
  if (path.empty()) return;
  try {
    BenchFile(path).append(point);
  } catch (const CheckpointError&) {
    return;
  }
}

}  // namespace gpt2train
