// memory.tune: which of the plans that fit is the fastest here, by trying the few that are likely
// to be.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "src/cli/plan_speeds.h"

namespace gpt2train {

// Of plans that fit, fastest first by relative_cost(): the first, its half and its quarter
// micro-batch, and at each other level of recomputation the largest micro-batch; six at most.
std::vector<Plan> plans_to_try(const std::vector<Plan>& fitting);

struct Trial {
  Plan plan = {};
  std::optional<SpeedEstimate> speed = {};  // empty: it ran out of memory
  std::string failure = {};                 // at this tensor
  bool known = false;                       // measured by an earlier run
};

struct Tuning {
  std::vector<Trial> trials;  // in order
  // All that the settings allow, fastest first; empty where nothing was measured. Of plans that
  // are about as fast as the fastest, the one that recomputes least leads; what fits and was not
  // tried follows it, whatever the model makes of it.
  std::vector<Plan> plans;
  bool interrupted = false;  // plans is empty then
};

// Measures a plan, and says how it went; empty when interrupted.
using MeasurePlan = std::function<std::optional<BenchPoint>(const Plan&)>;
// Told before each measurement, which may take a while, and after each trial.
struct TuneObserver {
  std::function<void(const Plan&)> begins = [](const Plan&) {};
  std::function<void(const Trial&)> ended = [](const Trial&) {};
};

// `known` points spare a measurement where they have the plan. After `most_seconds` no other plan
// is tried. No `measure`: what is known must do.
Tuning tune(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes,
            const Machine& machine, std::vector<BenchPoint> known, const MeasurePlan& measure,
            double most_seconds, const TuneObserver& observer = {});

}  // namespace gpt2train
