#include "src/run/machine.h"

#include <algorithm>
#include <chrono>

#include "gpt2train/config/devices.h"
#include "gpt2train/core/error.h"
#include "gpt2train/core/rng.h"
#include "gpt2train/memory/tensor.h"
#include "gpt2train/ops/ops.h"
#include "gpt2train/train/attention.h"

namespace gpt2train {
namespace {

// Fills a matrix of n * 1024 rows and columns with numbers between -1 and 1. Constants would not
// do: they cost a GPU less power, and so raise its clock.
void fill_random(const Exec& exec, const Tensor& matrix) {
  constexpr std::int64_t kCount = 1 << 20;
  static const std::vector<float> kValues = [] {
    std::vector<float> values(kCount);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Philox4 bits = philox({static_cast<std::uint32_t>(i), 0, 0, 0}, 0);
      values[i] = static_cast<float>(static_cast<std::int32_t>(bits[0])) * 0x1p-31f;
    }
    return values;
  }();
  const std::int64_t rows = kCount / matrix.view().width();
  const Tensor piece(exec.memory(), Tag::kWorkspace, "piece", DType::kFloat32,
                     {rows, matrix.view().width()});
  ops::upload(exec, piece, kValues.data());
  for (std::int64_t row = 0; row < matrix.view().rows(); row += rows) {
    ops::cast(exec, {.out = matrix.view().slice_rows(row, rows), .in = piece});
  }
}

}  // namespace

std::size_t resolve_budget(const MemoryConfig& config, const DeviceInfo& device) {
  std::size_t total = device.total_bytes;
  std::size_t available =
      device.available_bytes - std::min(device.unseen_bytes, device.available_bytes);
  if (!config.device.empty()) {
    const DeviceSpec card = find_device(config.device, "memory.device");
    total = card.memory_bytes;
    available = card.usable_bytes();
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

void check_offload(const RunConfig& config, const Backend& backend) {
  if (config.memory.offload == Offload::kNone || backend.kernels().has_own_memory) return;
  throw ConfigError("memory.offload",
                    "needs a CUDA device; on a CPU, all memory is the host's already");
}

std::unique_ptr<Backend> open_backend(DeviceChoice device) {
  if (device == DeviceChoice::kCpu) return open_cpu_backend();
  try {
    return open_cuda_backend();
  } catch (const DeviceError&) {
    if (device == DeviceChoice::kCuda) throw;
    return open_cpu_backend();
  }
}

PlanTarget plan_target(const RunConfig& config) {
  std::unique_ptr<Backend> backend;
  try {
    backend = open_backend(config.device);
  } catch (const DeviceError&) {
    const bool known =
        !config.memory.device.empty() || config.memory.limit.kind == MemoryLimit::Kind::kBytes;
    if (!known) throw;
    return {cuda_scratch_for(config), resolve_budget(config.memory, {}), {}};
  }
  check_offload(config, *backend);
  const DeviceInfo info = backend->info();
  return {kernels_for(config, *backend), resolve_budget(config.memory, info), info.name};
}

double measure_copied_bytes_per_second(Backend& backend) {
  CachingAllocator memory(backend.upstream(), CachingAllocator::kNoBudget);
  const Exec exec(backend.kernels(), memory, Compute::kRun, backend.stream());
  const std::unique_ptr<Stopwatch> watch = backend.stopwatch();
  constexpr std::int64_t kCount = 32 << 20;  // beyond the caches of any device
  const Tensor from(memory, Tag::kWorkspace, "from", DType::kFloat32, {kCount});
  const Tensor to(memory, Tag::kWorkspace, "to", DType::kFloat32, {kCount});
  ops::fill(exec, {.out = from, .value = 1.0f});
  double shortest = 1e30;
  for (int i = 0; i < 8; ++i) {
    watch->start(exec.stream());
    ops::cast(exec, {.out = to, .in = from});
    shortest = std::min(shortest, watch->stop(exec.stream()));
  }
  return 2.0 * static_cast<double>(kCount * sizeof(float)) / shortest;
}

double measure_matmul_flops_per_second(Backend& backend, DType dtype) {
  CachingAllocator memory(backend.upstream(), CachingAllocator::kNoBudget);
  const Exec exec(backend.kernels(), memory, Compute::kRun, backend.stream(), {.tune = true});
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  // A product that takes this long keeps every core busy, and its start does not count.
  constexpr Seconds kProductAtLeast{2e-3};
  // Long enough for a processor to reach the clock that a run has, and for a slow spell to pass.
  constexpr Seconds kAtLeast{0.5};
  constexpr std::int64_t kFirstSize = 1024, kLastSize = 8192;
  double best = 0.0;
  for (std::int64_t size = kFirstSize; size <= kLastSize; size *= 2) {
    const auto matrix = [&](const char* name) {
      Tensor tensor(memory, Tag::kWorkspace, name, dtype, {size, size});
      fill_random(exec, tensor);
      return tensor;
    };
    const Tensor a = matrix("a"), b = matrix("b"), out = matrix("out");
    float first_value = 0.0f;  // a download waits for what is under way
    const TensorView first{out.view().data, dtype, {1}};
    const auto product_seconds = [&] {
      const auto begin = Clock::now();
      ops::matmul(exec, {.out = out, .a = a, .b = b, .transpose_b = true});
      ops::download(exec, &first_value, first);
      return Seconds(Clock::now() - begin);
    };
    product_seconds();  // code is loaded, algorithms are chosen
    if (product_seconds() < kProductAtLeast && size < kLastSize) continue;
    Seconds shortest = product_seconds();
    for (const auto start = Clock::now(); Clock::now() - start < kAtLeast;) {
      shortest = std::min(shortest, product_seconds());
    }
    best = 2.0 * static_cast<double>(size * size * size) / shortest.count();
    break;
  }
  return best;
}

}  // namespace gpt2train
