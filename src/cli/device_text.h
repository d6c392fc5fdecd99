// Devices and cards as `gpt2train devices` shows them: text and JSON made of what was found.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gpt2train/config/devices.h"
#include "gpt2train/ops/backend.h"

namespace gpt2train {

// A device at one instant.
struct DeviceState {
  std::string backend;  // "cpu", "cuda"
  DeviceInfo info;
  std::vector<ProcessMemory> processes;
  std::optional<int> utilization_percent;
};

DeviceState state_of(const Backend& backend);

// For a screen that is looked at again and again: a line of memory and work, and one for each
// process with memory on the device, largest first. `own_pid` is this process.
std::vector<std::string> watch_lines(const DeviceState& state, int own_pid);

// Lines about who has memory on the device: other processes, and this one, whose part beyond
// `reserved_bytes` (what the ledger holds now) is the driver's context and libraries. Empty where
// nobody tells.
std::string device_memory_lines(const Backend& backend, std::size_t reserved_bytes);

// The same as an object: bytes, per cent, and null where nobody tells.
nlohmann::ordered_json to_json(const DeviceState& state);

// The catalogue as a table with a line of units, and as an array of objects.
std::string catalogue_table(std::span<const DeviceSpec> devices);
nlohmann::ordered_json to_json(std::span<const DeviceSpec> devices);

}  // namespace gpt2train
