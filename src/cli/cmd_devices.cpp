// `gpt2train devices`: what a run could use here.
#include <fmt/format.h>

#include "gpt2train/core/units.h"
#include "src/cli/commands.h"
#include "src/cli/machine.h"

namespace gpt2train {

Command add_devices(CLI::App&) {
  return [] {
    const Machine machine = inspect_machine();
    fmt::print("cpu: {}, {} threads\n", machine.processor, machine.threads);
    fmt::print("     memory {} in all, {} available; memory.limit: auto would be {}\n",
               human_bytes(machine.total_bytes), human_bytes(machine.available_bytes),
               human_bytes(resolve_budget({}, machine)));
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      const double rate = measure_matmul_flops_per_second(cpu_kernels(), dtype);
      fmt::print("     matrix product {}: {:.0f} GFLOP/s\n", name_of(dtype), rate * 1e-9);
    }
    fmt::print("cuda: this build has no CUDA backend\n");
  };
}

}  // namespace gpt2train
