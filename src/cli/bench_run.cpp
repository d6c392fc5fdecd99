#include "src/cli/bench_run.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "gpt2train/train/attention.h"
#include "src/run/version.h"

namespace gpt2train {
namespace {

// A point is one plan: where the trainer would go on with a smaller one, it has ended.
class NoRecovery final : public TrainObserver {
 public:
  void on_out_of_memory(const OutOfMemoryEvent& event) override {
    throw OutOfMemoryError(event.facts);
  }
};

// By the device's clock, after the steps: it is a part of each of them, whatever their length.
double median_update_seconds(const RunSetup& setup, const RunConfig& config,
                             const KernelTable& kernels, CachingAllocator& memory,
                             const Trainer& trainer, const BenchMethod& method) {
  const Exec exec(kernels, memory, Compute::kRun, setup.backend->stream());
  const std::unique_ptr<Stopwatch> watch = setup.backend->stopwatch();
  const TrainState& state = trainer.position();
  const StepPosition position{.iteration = state.iteration,
                              .updates = state.updates,
                              .loss_scale = state.loss_scale ? state.loss_scale->factor : 1.0f};
  std::vector<double> seconds;
  for (std::int64_t i = 0; i < method.steps; ++i) {
    watch->start(exec.stream());
    update_weights(exec, config, trainer.state(), position);
    seconds.push_back(watch->stop(exec.stream()));
  }
  return spread_of(std::move(seconds)).median;
}

// False when interrupted.
bool run_steps(const RunSetup& setup, const RunConfig& config, const BenchMethod& method,
               const std::function<bool()>& interrupted, BenchPoint& point) {
  const KernelTable& kernels = kernels_for(config, *setup.backend);
  CachingAllocator memory(setup.backend->upstream(), point.budget_bytes, config.memory.segments);
  NoRecovery observer;
  Trainer trainer({.backend = *setup.backend,
                   .kernels = kernels,
                   .memory = memory,
                   .config = config,
                   .config_yaml = {},
                   .train_data = setup.train_data,
                   .train_eval_data = setup.train_eval_data,
                   .val_data = setup.val_data,
                   .observer = observer,
                   .interrupted = interrupted});
  if (!trainer.evaluate()) return false;
  using Clock = std::chrono::steady_clock;
  for (std::int64_t step = 0; step < method.warmup + method.steps; ++step) {
    const auto begin = Clock::now();
    if (!trainer.step()) return false;
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (step >= method.warmup) point.step_seconds.push_back(seconds);
  }
  if (!trainer.evaluate()) return false;
  point.peak_bytes = memory.stats().peak_allocated_bytes;
  point.reserved_bytes = memory.stats().peak_reserved_bytes;
  point.update_seconds = median_update_seconds(setup, config, kernels, memory, trainer, method);
  return true;
}

}  // namespace

RunConfig bench_config(RunConfig config, const Plan& plan, const BenchMethod& method) {
  config.init_from = "scratch";
  config.training.batch_size = plan.micro_batch;
  config.training.gradient_accumulation_steps = std::min(method.accumulation, plan.accumulation);
  config.training.max_iters = method.warmup + method.steps;
  config.evaluation = {.eval_interval = config.training.max_iters, .eval_iters = 1};
  config.memory.recompute = plan.recompute;
  config.memory.recompute_layers = plan.block_layers;
  config.memory.plan = PlanMode::kOff;
  return config;
}

PlannedPoint planned_point(const RunSetup& setup, const RunConfig& wanted, const Plan& plan,
                           const BenchMethod& method) {
  const Backend& backend = *setup.backend;
  PlannedPoint planned{.config = bench_config(wanted, plan, method), .point = {}};
  const Prediction prediction = predict(kernels_for(planned.config, backend), planned.config,
                                        configured_plan(planned.config), setup.budget_bytes);
  planned.fits = prediction.fits();
  planned.point = {
      .settings = bench_settings(version(), backend.kernels().name, backend.info().name, wanted,
                                 plan, method, prediction),
      .date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))),
      .dtype = wanted.dtype,
      .plan = plan,
      .budget_bytes = setup.budget_bytes,
      .predicted_peak_bytes = prediction.stats.peak_allocated_bytes,
      .predicted_reserved_bytes = prediction.stats.peak_reserved_bytes};
  if (prediction.failure) {
    planned.point.failure = concat(prediction.failure->tensor, ' ', prediction.failure->shape);
  } else if (!planned.fits) {
    planned.point.failure = "the cache would be given back in every step";
  }
  return planned;
}

bool measure(const RunSetup& setup, const RunConfig& config, const BenchMethod& method,
             const std::function<bool()>& interrupted, BenchPoint& point) {
  try {
    if (!run_steps(setup, config, method, interrupted, point)) return false;
  } catch (const OutOfMemoryError& error) {
    point.status = BenchPoint::Status::kOutOfMemory;
    point.failure = concat(error.facts().tensor, ' ', error.facts().shape);
    return true;
  }
  point.status = BenchPoint::Status::kMeasured;
  point.tokens_per_second =
      tokens_per_second(config, point.plan, config.training.gradient_accumulation_steps,
                        point.step_seconds, point.update_seconds);
  point.mfu =
      point.tokens_per_second.median * flops_per_token(config.model) / point.peak_flops_per_second;
  return true;
}

}  // namespace gpt2train
