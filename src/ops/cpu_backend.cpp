#include <omp.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/ops/backend.h"

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

// Kernels have finished when they return.
class CpuStopwatch final : public Stopwatch {
 public:
  void start(Stream) override { start_ = Clock::now(); }
  double stop(Stream) override {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_;
};

class CpuBackend final : public Backend {
 public:
  const KernelTable& kernels() const override { return cpu_kernels(); }
  Upstream& upstream() override { return upstream_; }
  Stream stream() const override { return {}; }
  bool computes(DType dtype) const override {
    return dtype == DType::kFloat32 || dtype == DType::kBFloat16;
  }

  std::unique_ptr<Stopwatch> stopwatch() const override { return std::make_unique<CpuStopwatch>(); }

  // Memory is the machine's, or the control group's where that is less.
  DeviceInfo info() const override {
    std::string processor = value_in("/proc/cpuinfo", "model name");
    if (processor.empty()) processor = "unknown processor";
    DeviceInfo info{.name = concat(processor, ", ", omp_get_max_threads(), " threads"),
                    .total_bytes = meminfo_bytes("MemTotal"),
                    .available_bytes = meminfo_bytes("MemAvailable"),
                    .unseen_bytes = 0};
    if (const auto limit = control_group_bytes("/sys/fs/cgroup/memory.max")) {
      info.total_bytes = std::min(info.total_bytes, *limit);
      const std::size_t used = control_group_bytes("/sys/fs/cgroup/memory.current").value_or(0);
      info.available_bytes = std::min(info.available_bytes, *limit - std::min(used, *limit));
    }
    info.unseen_bytes = info.available_bytes / 20;
    return info;
  }

 private:
  HostUpstream upstream_;
};

}  // namespace

std::unique_ptr<Backend> open_cpu_backend() {
  if (const char* missing = missing_instructions()) {
    throw DeviceError(concat("this build is for processors with ", missing,
                             ", which this one does not have: build it here, or with "
                             "GPT2TRAIN_MARCH=x86-64"));
  }
  return std::make_unique<CpuBackend>();
}

}  // namespace gpt2train
