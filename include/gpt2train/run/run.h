// gpt2train as a library: settings, what a run by them needs, and the run. gpt2train/run/sampler.h
// has what comes after it. As the program's commands, but for what they print.
//
//   const RunConfig config = load_settings("run.yaml", {"max_iters=1000", "memory.limit=4GiB"});
//   if (!plan_run(config).chosen) return;  // nothing fits
//   train(config, observer);
//
// Errors are exceptions, each an Error (gpt2train/core/error.h) whose what() is one line with the
// numbers and the place. Nothing is printed, no signal is caught. For one thread at a time. Threads
// of OpenMP spin while they wait: where others want the cores, too, run with GOMP_SPINCOUNT=5000.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/train/observer.h"
#include "gpt2train/train/plan.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

// The defaults, then the file (an empty path: none), then each of `settings`, "name=value" as the
// program takes them after "--". Throws ConfigError.
RunConfig load_settings(const std::string& path, const std::vector<std::string>& settings = {});

struct RunPlan {
  std::string device = {};  // empty where it is not here, and the plan is for what is known of it
  std::size_t budget_bytes = 0;
  std::vector<PredictedPlan> candidates = {};  // all that the settings allow, fastest first
  std::optional<std::size_t> chosen = {};      // what train() begins with; empty: nothing fits
};

// By dry runs: exact, and in no need of the device or the data where the settings name a card
// ("device=rtx3060") or a budget in bytes. Throws ConfigError and DeviceError.
RunPlan plan_run(const RunConfig& config);

// Trains until max_iters, and leaves in out_dir what the program does: checkpoints, metrics.jsonl,
// metrics.csv, run.html and so on. `stop`, where given, is asked before each micro-batch, and once
// it says yes the run is saved and ends; the step under way is abandoned. Returns what `observer`
// is told by on_end. What an observer throws ends the run as it stands. Throws ConfigError (for
// memory.tune, too: only the program tunes), DataError, CheckpointError (an out_dir that holds
// another run's), DeviceError, and OutOfMemoryError with advice where not even the smallest plan
// fits.
EndEvent train(const RunConfig& config, TrainObserver& observer,
               const std::function<bool()>& stop = {});

}  // namespace gpt2train
