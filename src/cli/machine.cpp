#include "src/cli/machine.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <optional>
#include <string_view>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/memory/tensor.h"
#include "gpt2train/ops/ops.h"

namespace gpt2train {
namespace {

// The value after `key` and a colon in a file of such lines; empty when it is not there.
std::string value_in(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

std::size_t meminfo_bytes(const std::string& key) {
  const std::string value = value_in("/proc/meminfo", key);  // "24640000 kB"
  return value.empty() ? 0 : std::stoull(value) * kKiB;
}

std::optional<std::size_t> control_group_bytes(const char* path) {
  std::ifstream file(path);
  std::size_t bytes = 0;
  if (file >> bytes) return bytes;  // the word "max", for no limit, does not parse
  return std::nullopt;
}

// Memory as the documents' cards have it: what a driver reports, less what a context takes.
struct Card {
  std::string_view name;
  double gib;
};
constexpr std::array<Card, 6> kCards = {{{"rtx3060", 11.69},
                                         {"rtx3060-laptop", 5.79},
                                         {"rtx4070", 11.99},
                                         {"rtx4090", 23.64},
                                         {"a100-40gb", 39.39},
                                         {"h100", 79.10}}};

}  // namespace

Machine inspect_machine() {
  Machine machine;
  machine.processor = value_in("/proc/cpuinfo", "model name");
  if (machine.processor.empty()) machine.processor = "unknown processor";
  machine.threads = omp_get_max_threads();
  machine.total_bytes = meminfo_bytes("MemTotal");
  machine.available_bytes = meminfo_bytes("MemAvailable");
  if (const auto limit = control_group_bytes("/sys/fs/cgroup/memory.max")) {
    machine.total_bytes = std::min(machine.total_bytes, *limit);
    const std::size_t used = control_group_bytes("/sys/fs/cgroup/memory.current").value_or(0);
    machine.available_bytes = std::min(machine.available_bytes, *limit - std::min(used, *limit));
  }
  return machine;
}

std::size_t resolve_budget(const MemoryConfig& config, const Machine& machine) {
  std::size_t total = machine.total_bytes;
  std::size_t available = machine.available_bytes - machine.available_bytes / 20;
  if (!config.device.empty()) {
    const auto* card = std::find_if(kCards.begin(), kCards.end(),
                                    [&](const Card& c) { return c.name == config.device; });
    if (card == kCards.end()) {
      std::string known;
      for (const Card& c : kCards) known += concat(known.empty() ? "" : ", ", c.name);
      throw ConfigError("memory.device", concat('"', config.device, "\" is not one of ", known));
    }
    total = available = static_cast<std::size_t>(card->gib * static_cast<double>(kGiB));
  }
  switch (config.limit.kind) {
    case MemoryLimit::Kind::kBytes:
      return config.limit.bytes;
    case MemoryLimit::Kind::kFraction:
      return static_cast<std::size_t>(config.limit.fraction * static_cast<double>(total));
    case MemoryLimit::Kind::kAuto:
      return available;
  }
  return available;
}

const KernelTable& choose_kernels(DeviceChoice device) {
  if (device == DeviceChoice::kCuda) {
    throw DeviceError("device: cuda: this build has no CUDA backend; use --device=cpu");
  }
  return cpu_kernels();
}

double measure_matmul_flops_per_second(const KernelTable& kernels, DType dtype) {
  constexpr std::int64_t kSize = 1024;
  HostUpstream upstream;
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  const Exec exec(kernels, memory);
  const auto matrix = [&](const char* name) {
    Tensor tensor(memory, Tag::kWorkspace, name, dtype, {kSize, kSize});
    ops::fill(exec, {.out = tensor, .value = 0.5f});
    return tensor;
  };
  const Tensor a = matrix("a"), b = matrix("b"), out = matrix("out");
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  // Long enough for cores to reach the clock that a run has, and for a slow spell to pass.
  constexpr Seconds kAtLeast{0.5};
  double best = 1e30;
  for (const auto first = Clock::now(); Clock::now() - first < kAtLeast;) {
    const auto begin = Clock::now();
    ops::matmul(exec, {.out = out, .a = a, .b = b, .transpose_b = true});
    best = std::min(best, Seconds(Clock::now() - begin).count());
  }
  return 2.0 * static_cast<double>(kSize * kSize * kSize) / best;
}

}  // namespace gpt2train
