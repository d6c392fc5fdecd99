// What a run stands on, from its settings: a device, a budget, the data.
#pragma once

#include <functional>
#include <memory>

#include "gpt2train/data/loader.h"
#include "gpt2train/ops/backend.h"
#include "gpt2train/train/trainer.h"

namespace gpt2train {

// Throws ConfigError where the backend does not compute in the config's dtype.
void check_dtype(const RunConfig& config, const Backend& backend);

// Makes out_dir. Throws CheckpointError where it cannot be made, or where a fresh start would mix
// its checkpoints with those of another run.
void prepare_out_dir(const RunConfig& config);

class RunSetup {
 public:
  // Throws ConfigError, DataError and DeviceError.
  explicit RunSetup(RunConfig loaded);

  // For Trainer; `memory` and `observer` outlive it, as this does.
  TrainerSetup trainer_setup(CachingAllocator& memory, TrainObserver& observer) const;

  // For a trainer on `memory`, which outlives what is returned, as this does: the budget that a run
  // would have if it began now.
  std::function<std::size_t()> budget_now(const CachingAllocator& memory) const;

  RunConfig config;
  std::unique_ptr<Backend> backend;
  const KernelTable& kernels;  // of the backend, with the attention that was asked for
  std::size_t budget_bytes;
  TokenSource train, val;
  Loader train_data, train_eval_data, val_data;
};

}  // namespace gpt2train
