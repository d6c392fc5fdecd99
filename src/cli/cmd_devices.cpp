// `gpt2train devices`: what a run could use here.
#include <fmt/format.h>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "src/cli/commands.h"
#include "src/cli/machine.h"

namespace gpt2train {
namespace {

void show(Backend& backend) {
  const DeviceInfo info = backend.info();
  fmt::print("{}: {}\n", backend.kernels().name, info.name);
  fmt::print("      memory {} in all, {} available; memory.limit: auto would be {}\n",
             human_bytes(info.total_bytes), human_bytes(info.available_bytes),
             human_bytes(resolve_budget({}, info)));
  fmt::print("{}", device_memory_lines(backend, 0));
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (!backend.computes(dtype)) continue;
    const double rate = measure_matmul_flops_per_second(backend, dtype);
    fmt::print("      matrix product {}: {:.0f} GFLOP/s\n", name_of(dtype), rate * 1e-9);
  }
}

}  // namespace

Command add_devices(CLI::App&) {
  return [] {
    show(*open_cpu_backend());
    try {
      show(*open_cuda_backend());
    } catch (const DeviceError& error) {
      fmt::print("cuda: {}\n", error.what());
    }
  };
}

}  // namespace gpt2train
