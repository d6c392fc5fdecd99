// From what the settings ask for to what this machine has: a backend, a budget, a ceiling of speed.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "gpt2train/ops/backend.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

// Bytes a run may reserve: memory.limit, a fraction of the (simulated) device, or for auto what is
// available less what the ledger cannot see: of a simulated card, all but its reserve. Throws
// ConfigError for a device that is not in the catalogue.
std::size_t resolve_budget(const MemoryConfig& config, const DeviceInfo& device);

// auto is CUDA where it can be opened, and the CPU otherwise. Throws DeviceError.
std::unique_ptr<Backend> open_backend(DeviceChoice device);

// Throws ConfigError where memory.offload has nothing to keep off: on a CPU.
void check_offload(const RunConfig& config, const Backend& backend);

// What a plan is made for.
struct PlanTarget {
  const KernelTable& kernels;
  std::size_t budget_bytes;
  std::string device;  // DeviceInfo::name; empty where it is not there
};

// The device itself, or, where CUDA is asked for and not there, what is known of it without one.
// Throws ConfigError and, where the budget is not known either, DeviceError.
PlanTarget plan_target(const RunConfig& config);

// Rate at which large arrays are copied on the device: bytes read plus bytes written.
double measure_copied_bytes_per_second(Backend& backend);

// Rate of a square matrix product here: the ceiling that MFU is a share of.
double measure_matmul_flops_per_second(Backend& backend, DType dtype);

}  // namespace gpt2train
