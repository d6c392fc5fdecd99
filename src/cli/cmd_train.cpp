// `gpt2train --config FILE`: a training run.
#include <fmt/format.h>

#include "gpt2train/config/load.h"
#include "gpt2train/memory/report.h"
#include "gpt2train/memory/trace.h"
#include "src/cli/commands.h"
#include "src/cli/device_text.h"
#include "src/cli/options.h"
#include "src/cli/plan_report.h"
#include "src/cli/progress.h"
#include "src/cli/signals.h"
#include "src/cli/tune_run.h"
#include "src/run/evaluation_text.h"
#include "src/run/machine.h"
#include "src/run/run_files.h"

namespace gpt2train {
namespace {

// What a page of memory shows of plans: the one that the run begins with is marked.
TraceTable plans_table(const RunSetup& setup, const Tuning& tuning) {
  const RunConfig& config = setup.config;
  PlanAnswer answer = answer_plan(setup.kernels, config, setup.budget_bytes);
  add_speeds(answer, config,
             PlanSpeeds(setup.kernels, config,
                        {.backend = setup.kernels.name, .device = setup.backend->info().name},
                        known_points(config.out_dir)));
  Plan plan = configured_plan(config);
  if (config.memory.plan == PlanMode::kAuto) {
    const std::vector<Plan> plans = tuning.plans.empty() ? candidate_plans(config) : tuning.plans;
    const auto chosen = choose_plan(setup.kernels, config, plans, setup.budget_bytes);
    if (chosen) plan = chosen->plan;
  }
  return to_table(answer, config, plan);
}

void run(const ConfigOptions& options) {
  for (const std::string& what : ignored_settings(options.file)) fmt::print("ignored: {}\n", what);
  const RunSetup setup(load_config(options));
  const RunConfig& config = setup.config;
  const SampleText sample = evaluation_text(config, signal_seen);
  if (!config.memory.trace.empty()) static_cast<void>(trace_format_of(config.memory.trace));
  RunFiles files(config);
  fmt::print("data:  {} training tokens, {} validation tokens\n", setup.train.token_count(),
             setup.val.token_count());
  if (config.attention != Attention::kNative) {
    const bool native = &setup.kernels == &setup.backend->kernels();
    fmt::print("{}:  attention by {}\n", setup.kernels.name, native ? "our kernels" : "cuDNN");
  }
  fmt::print("{}", device_memory_lines(*setup.backend, 0));
  const double peak_flops = measure_matmul_flops_per_second(*setup.backend, config.dtype);
  catch_signals();
  Tuning tuning;
  if (config.memory.tune) tuning = tune_run(setup, peak_flops);
  if (tuning.interrupted) return;
  forget_peak_resident_bytes();  // of these measurements

  CachingAllocator memory(setup.backend->upstream(), setup.budget_bytes, config.memory.segments);
  Progress progress(config, memory, *setup.backend);
  ObserverList observers({&files.observer(), &progress});
  std::optional<MemoryTrace> trace;
  if (const std::string& path = config.memory.trace; !path.empty()) {
    const bool page = trace_format_of(path) == TraceFormat::kHtml;
    trace.emplace(memory, path, page ? plans_table(setup, tuning) : TraceTable{});
  }
  TrainerSetup trainer_setup = setup.trainer_setup(memory, observers);
  trainer_setup.budget_now = setup.budget_now(memory);
  trainer_setup.plans = tuning.plans;
  trainer_setup.interrupted = signal_seen;
  trainer_setup.sample = sample;
  trainer_setup.peak_flops_per_second = peak_flops;
  observers.on_start(start_of(setup));
  Trainer trainer(trainer_setup);
  trainer.run();
  trace.reset();  // with the model still in memory
  fmt::print("{}", device_memory_lines(*setup.backend, memory.stats().reserved_bytes));
}

}  // namespace

Command add_train(CLI::App& app) {
  const auto options = std::make_shared<ConfigOptions>();
  add_quiet(app);
  add_config_options(app, *options);
  return [options] {
    if (options->file.empty() && options->overrides.empty()) {
      throw ConfigError("--config", "name a YAML file of settings; see gpt2train --help");
    }
    run(*options);
  };
}

}  // namespace gpt2train
