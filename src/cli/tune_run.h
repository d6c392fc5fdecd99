// memory.tune on this machine: trials as `bench` makes them, told on the terminal, and remembered.
#pragma once

#include "src/cli/tune.h"
#include "src/run/run_setup.h"

namespace gpt2train {

// Before the run's own memory is taken. A run that is resumed keeps its split, so nothing is
// measured for it; what is known still orders its plans. A signal interrupts it.
Tuning tune_run(const RunSetup& setup, double peak_flops_per_second);

// What earlier runs on this machine have measured, and nothing new: what `plan` goes by.
Tuning tuned_before(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes,
                    const Machine& machine);

}  // namespace gpt2train
