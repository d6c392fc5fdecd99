// Cards by name, with the figures that a plan for one of them rests on: those compiled in
// (configs/devices.yaml says where they come from), and the user's own.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace gpt2train {

struct DeviceSpec {
  std::string name;               // "rtx3060", as settings have it
  std::string title;              // "GeForce RTX 3060 12 GB"
  std::string driver_name = {};   // "NVIDIA GeForce RTX 3060", as the driver calls it
  std::size_t memory_bytes = 0;   // in all, as a driver reports it
  std::size_t reserve_bytes = 0;  // of these, what a CUDA context and libraries take (assumed)
  double bytes_per_second = 0.0;  // of its memory
  // Of dense matrix products with float32 sums, at the boost clock; half is bfloat16 and float16.
  double float32_flops = 0.0, tf32_flops = 0.0, half_flops = 0.0;
  int multiprocessors = 0;
  int compute_capability = 0;  // 86 for 8.6

  // What is left to a run that has the card for itself.
  std::size_t usable_bytes() const { return memory_bytes - reserve_bytes; }
};

// In the files' order, the built-in ones first; a user's entry takes the place of a built-in one of
// its name. The user's file is what GPT2TRAIN_DEVICES names, or else, where it is there,
// gpt2train/devices.yaml in $XDG_CONFIG_HOME or ~/.config. Read anew by each call. Throws
// ConfigError, where = "file:line:column".
std::vector<DeviceSpec> device_catalogue();

// Throws ConfigError with the known names where this is none; `where` begins its message.
DeviceSpec find_device(const std::string& name, const std::string& where);

// The card that a driver calls so; `name` as DeviceInfo has it ("NVIDIA GeForce RTX 3060, sm_86").
std::optional<DeviceSpec> find_driver_device(const std::string& name);

// The part of the catalogue that a YAML text has; `file` stands for it in messages.
std::vector<DeviceSpec> parse_devices(const std::string& yaml, const std::string& file);

}  // namespace gpt2train
