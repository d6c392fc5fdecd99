#include "src/cli/tune_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iterator>

#include "src/cli/bench_run.h"
#include "src/cli/signals.h"
#include "src/run/version.h"

namespace gpt2train {
namespace {

// No other trial begins then. With GPT-2 124M on a CPU one takes minutes.
constexpr double kMostSeconds = 300.0;

// As short as it can be: a GPU has recorded both kinds of micro-batch after the third step, on a
// CPU one warm step is like the next.
BenchMethod trial_method(const Backend& backend) {
  const bool gpu = backend.kernels().has_own_memory;
  return {.warmup = gpu ? 3 : 1, .steps = 3, .accumulation = gpu ? 2 : 1};
}

std::string plan_text(const Plan& plan, const ModelConfig& model) {
  return fmt::format("micro-batch {}, recompute {}", plan.micro_batch, recompute_text(plan, model));
}

// Another version may be faster where this one is not.
std::vector<BenchPoint> points_of_this_version(const std::string& out_dir) {
  std::vector<BenchPoint> points = known_points(out_dir);
  std::erase_if(points, [own = version()](const BenchPoint& point) {
    return point.settings.value("version", "") != own;
  });
  return points;
}

}  // namespace

Tuning tune_run(const RunSetup& setup, double peak_flops_per_second) {
  const RunConfig& config = setup.config;
  const BenchMethod method = trial_method(*setup.backend);
  MeasurePlan measure_plan = [&](const Plan& plan) -> std::optional<BenchPoint> {
    PlannedPoint planned = planned_point(setup, config, plan, method);
    if (!planned.fits) return planned.point;
    planned.point.peak_flops_per_second = peak_flops_per_second;
    if (!measure(setup, planned.config, method, signal_seen, planned.point)) return std::nullopt;
    remember_point(planned.point);
    return planned.point;
  };
  if (config.init_from == "resume") measure_plan = nullptr;
  const TuneObserver observer{.begins =
                                  [&](const Plan& plan) {
                                    fmt::print("tune:  {}: ", plan_text(plan, config.model));
                                    std::fflush(stdout);
                                  },
                              .ended =
                                  [&](const Trial& trial) {
                                    if (trial.known)
                                      fmt::print("tune:  {}: ",
                                                 plan_text(trial.plan, config.model));
                                    if (trial.speed) {
                                      fmt::print("{} tokens/s{}\n", speed_text(trial.speed),
                                                 trial.known ? ", measured before" : "");
                                    } else {
                                      fmt::print("ran out of memory at {}\n", trial.failure);
                                    }
                                    std::fflush(stdout);
                                  }};
  Tuning tuning =
      tune(setup.kernels, config, setup.budget_bytes,
           {.backend = setup.kernels.name, .device = setup.backend->info().name},
           points_of_this_version(config.out_dir), measure_plan, kMostSeconds, observer);
  if (tuning.interrupted) fmt::print("\ninterrupted before the run began\n");
  return tuning;
}

Tuning tuned_before(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes,
                    const Machine& machine) {
  return tune(kernels, config, budget_bytes, machine, points_of_this_version(config.out_dir),
              nullptr, 0.0);
}

}  // namespace gpt2train
