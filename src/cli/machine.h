// What this machine has: processor, memory, and what of it is free to use.
#pragma once

#include <cstddef>
#include <string>

#include "gpt2train/train/run_config.h"
#include "kernels/table.h"

namespace gpt2train {

struct Machine {
  std::string processor;
  int threads = 1;              // that a run will use
  std::size_t total_bytes = 0;  // memory, or the control group's limit where that is lower
  std::size_t available_bytes = 0;
};
Machine inspect_machine();

// Bytes a run may reserve: memory.limit, a fraction of the (simulated) device, or for auto what is
// available less a twentieth for what the ledger cannot see. Throws ConfigError for a device that
// is not in the catalogue.
std::size_t resolve_budget(const MemoryConfig& config, const Machine& machine);

// The backend that `device` asks for. Throws DeviceError when it is not there.
const KernelTable& choose_kernels(DeviceChoice device);

// Rate of a square fp32 or bf16 matrix product here: the ceiling that MFU is a share of.
double measure_matmul_flops_per_second(const KernelTable& kernels, DType dtype);

}  // namespace gpt2train
