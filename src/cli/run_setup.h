// What a run stands on, from its settings: a device, a budget, the data.
#pragma once

#include <memory>

#include "gpt2train/config/load.h"
#include "gpt2train/data/loader.h"
#include "gpt2train/ops/backend.h"
#include "gpt2train/train/trainer.h"
#include "src/cli/options.h"

namespace gpt2train {

// Throws ConfigError where the backend does not compute in the config's dtype.
void check_dtype(const RunConfig& config, const Backend& backend);

class RunSetup {
 public:
  // Throws ConfigError, DataError and DeviceError.
  explicit RunSetup(const ConfigOptions& options);
  explicit RunSetup(RunConfig loaded);

  // For Trainer; `memory` and `observer` outlive it, as this does.
  TrainerSetup trainer_setup(CachingAllocator& memory, TrainObserver& observer) const;

  RunConfig config;
  std::unique_ptr<Backend> backend;
  const KernelTable& kernels;  // of the backend, with the attention that was asked for
  std::size_t budget_bytes;
  TokenSource train, val;
  Loader train_data, train_eval_data, val_data;
};

}  // namespace gpt2train
