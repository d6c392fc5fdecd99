// A point of a sweep, and the file that keeps points: one JSON object a line, which says all that
// its figures depend on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/train/plan.h"
#include "gpt2train/train/run_config.h"
#include "src/cli/statistics.h"

namespace gpt2train {

// How a point is measured.
struct BenchMethod {
  // Steps that do not count: segments are taken in the first, a GPU records micro-batches in the
  // third.
  std::int64_t warmup = 3;
  std::int64_t steps = 5;         // timed
  std::int64_t accumulation = 2;  // most micro-batches of a timed step
};

struct BenchPoint {
  enum class Status : std::uint8_t {
    kMeasured,
    kDoesNotFit,   // a dry run says so: it was not tried
    kOutOfMemory,  // the device refused what the budget allows
  };

  // All that the figures depend on: version, device, model, plan, method, what was predicted.
  nlohmann::ordered_json settings = {};
  std::string date = {};  // UTC, ISO 8601
  DType dtype = DType::kFloat32;
  Plan plan = {};  // of the run that the settings describe
  Status status = Status::kDoesNotFit;
  std::string failure = {};  // the request that could not be met, of a point without figures
  std::size_t budget_bytes = 0;
  std::size_t predicted_peak_bytes = 0, predicted_reserved_bytes = 0;
  std::size_t peak_bytes = 0, reserved_bytes = 0;  // measured
  std::vector<double> step_seconds = {};           // of timed steps, in order
  double update_seconds = 0.0;                     // of the gradient norm and AdamW, in each step
  double peak_flops_per_second = 0.0;              // of large matrix products here
  Spread tokens_per_second = {};
  double mfu = 0.0;

  bool as_predicted() const {
    return status != Status::kMeasured ||
           (peak_bytes == predicted_peak_bytes && reserved_bytes == predicted_reserved_bytes);
  }
};
const char* name_of(BenchPoint::Status status);  // "measured", "does_not_fit", "out_of_memory"

// Settings that change neither the speed of a step nor its memory, such as paths, are left out; the
// rest are in it by default.
nlohmann::ordered_json bench_settings(const std::string& version, const std::string& backend,
                                      const std::string& device, const RunConfig& config,
                                      const Plan& plan, const BenchMethod& method,
                                      const Prediction& prediction);

// What the speed of a step depends on: `settings` of a point without device, version, method,
// accumulation and budget.
nlohmann::ordered_json speed_settings(const RunConfig& config, const Plan& plan);

// The config of a point, for what a step of it does; what its version did not write is as by
// default. Empty where the settings are none.
std::optional<RunConfig> config_of(const BenchPoint& point);

// Tokens per second of steps of `plan`, from steps of `timed` of its micro-batches: each
// micro-batch takes what it took there, and the update is made once.
Spread tokens_per_second(const RunConfig& config, const Plan& plan, std::int64_t timed,
                         const std::vector<double>& step_seconds, double update_seconds);

nlohmann::ordered_json to_json(const BenchPoint& point);
// Throws nlohmann::json::exception for what to_json() did not write.
BenchPoint bench_point_of(const nlohmann::ordered_json& json);

// The points that a file has, oldest first. A line that is none is left out, as is a file that is
// not there.
std::vector<BenchPoint> read_bench_points(const std::string& path);

// This user's points, of whatever run: bench.jsonl in cache_folder(). Empty where that is not
// known.
std::string bench_cache_path();

// Appends to those. Who has no such folder, or a full disk, goes without.
void remember_point(const BenchPoint& point);

class BenchFile {
 public:
  // Makes the directory of `path`, reads the points that are there (a torn line is none), and
  // appends from then on. Throws CheckpointError where that cannot be.
  explicit BenchFile(const std::string& path);

  // The newest point with these settings that was measured, and found as predicted.
  std::optional<BenchPoint> find(const nlohmann::ordered_json& settings) const;
  // Flushed at once. Throws CheckpointError where it cannot be written.
  void append(const BenchPoint& point);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::vector<BenchPoint> points_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace gpt2train
