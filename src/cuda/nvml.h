// Whose memory is in use on a GPU, and how busy it is, as the driver's management library (NVML)
// tells. It comes with the driver, so it is opened when asked for, and its few types are declared
// here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpt2train/ops/backend.h"

namespace gpt2train {

// Processes with memory on the device at `pci_bus_id` ("0000:01:00.0"), this one among them. Empty
// where NVML is not there or refuses; names and sizes only where it tells (not in containers, or
// under Windows).
std::vector<ProcessMemory> processes_on_gpu(const std::string& pci_bus_id);

// Share of the last sample period, of up to a second, in which a kernel ran there; nothing where
// NVML does not tell.
std::optional<int> gpu_utilization_percent(const std::string& pci_bus_id);

}  // namespace gpt2train
