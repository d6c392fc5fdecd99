// How fast plans are on a machine, as far as points that were measured there tell: a plan that was
// itself measured has its figure, others what the model makes of the points.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "src/cli/bench_point.h"
#include "src/cli/speed_model.h"

namespace gpt2train {

struct Machine {
  std::string backend;  // "cpu"
  std::string device;   // DeviceInfo::name
};

struct SpeedEstimate {
  double tokens_per_second = 0.0;
  bool measured = false;
};

// What estimates rest on.
struct SpeedBasis {
  std::size_t measured_points = 0;  // of this model
  std::size_t model_points = 0;     // that the model was fitted to; 0: there is no model
  // Of the model: with each of this config's points left out in turn or, where there are none, with
  // each other model. Empty where that cannot be done.
  std::optional<SpeedError> model_error = {};
  // DeviceInfo::name of another card, where the model is that card's, at the rates that the
  // catalogue has of the two. `model_error` is of the model there.
  std::string scaled_from = {};

  bool known() const { return measured_points + model_points > 0; }
};

class PlanSpeeds {
 public:
  // Of `points`, oldest first, those count that were measured on this machine and computed as
  // `config` does (dtype, tf32, attention and such). The model needs two, and keeps to those of
  // this model where there are two. Where this machine has no point, but is a card of the
  // catalogue (or the settings' memory.device is one, where there is no device), the model is that
  // of the card most like it that was measured. `kernels` outlive this.
  PlanSpeeds(const KernelTable& kernels, const RunConfig& config, const Machine& machine,
             const std::vector<BenchPoint>& points);

  // Of a config that differs from the one given above in its memory settings at most. Empty where
  // nothing is known.
  std::optional<SpeedEstimate> of(const RunConfig& config, const Plan& plan) const;
  const SpeedBasis& basis() const { return basis_; }

 private:
  struct Measured {
    std::int64_t timed_accumulation;
    std::vector<double> step_seconds;
    double update_seconds;
  };

  const KernelTable& kernels_;
  std::map<std::string, Measured> measured_;  // by speed_settings()
  std::optional<SpeedModel> model_;
  SpeedBasis basis_;
};

// Points that this user has: of earlier runs on this machine, of `out_dir`, and of `files`, each of
// which must be there. Throws DataError.
std::vector<BenchPoint> known_points(const std::string& out_dir,
                                     const std::vector<std::string>& files = {});

// For `plan --json`: tokens_per_second, ..._source and ..._error, null where not known.
nlohmann::ordered_json to_json(const std::optional<SpeedEstimate>& estimate,
                               const SpeedBasis& basis);
nlohmann::ordered_json to_json(const SpeedBasis& basis);

// "1,162", "~1,150" by the model, "-".
std::string speed_text(const std::optional<SpeedEstimate>& estimate);

// What the figures rest on, and how far the model is off; a line.
std::string speed_note(const SpeedBasis& basis);

}  // namespace gpt2train
