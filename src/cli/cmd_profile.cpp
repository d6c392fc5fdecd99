// `gpt2train profile`: where the time of a training step goes, kernel by kernel.
#include <fmt/format.h>

#include <chrono>

#include "gpt2train/ops/profiler.h"
#include "src/cli/commands.h"
#include "src/cli/options.h"
#include "src/run/machine.h"
#include "src/run/run_setup.h"
#include "src/train/json.h"

namespace gpt2train {
namespace {

struct ProfileOptions {
  ConfigOptions config;
  int steps = 3;
  bool json = false;
};

struct Peaks {
  double bytes_per_second, flops_per_second;
};

// Of whichever of the two limits is nearer.
double share_of_peak(const KernelTime& kernel, const Peaks& peaks) {
  return std::max(kernel.work.bytes / kernel.seconds / peaks.bytes_per_second,
                  kernel.work.flops / kernel.seconds / peaks.flops_per_second);
}

void print_kernels(const std::vector<KernelTime>& kernels, double steps, double step_seconds,
                   const Peaks& peaks) {
  double sum = 0.0;
  for (const KernelTime& kernel : kernels) sum += kernel.seconds;
  fmt::print("{:<20} {:>7} {:>10} {:>6} {:>9} {:>9} {:>8}\n", "kernel", "calls", "ms/step", "share",
             "GB/s", "GFLOP/s", "of peak");
  for (const KernelTime& kernel : kernels) {
    fmt::print("{:<20} {:>7.0f} {:>10.3f} {:>5.1f}% {:>9.1f} {:>9.0f} {:>7.0f}%\n", kernel.name,
               static_cast<double>(kernel.calls) / steps, kernel.seconds / steps * 1e3,
               100.0 * kernel.seconds / sum, kernel.work.bytes / kernel.seconds * 1e-9,
               kernel.work.flops / kernel.seconds * 1e-9, 100.0 * share_of_peak(kernel, peaks));
  }
  fmt::print("\n{:.3f} ms in kernels, {:.3f} ms an undisturbed step\n", sum / steps * 1e3,
             step_seconds * 1e3);
  fmt::print(
      "peaks measured here: {:.1f} GB/s copied, {:.0f} GFLOP/s in matrix products; more is\n"
      "reached where operands are still in a cache\n",
      peaks.bytes_per_second * 1e-9, peaks.flops_per_second * 1e-9);
}

void print_kernels_json(const std::vector<KernelTime>& kernels, double steps, double step_seconds,
                        const Peaks& peaks) {
  nlohmann::ordered_json json = {{"step_seconds", step_seconds},
                                 {"peak_bytes_per_second", peaks.bytes_per_second},
                                 {"peak_flops_per_second", peaks.flops_per_second}};
  json["kernels"] = nlohmann::ordered_json::array();
  for (const KernelTime& kernel : kernels) {
    json["kernels"].push_back({{"name", kernel.name},
                               {"calls_per_step", static_cast<double>(kernel.calls) / steps},
                               {"seconds_per_step", kernel.seconds / steps},
                               {"bytes_per_step", kernel.work.bytes / steps},
                               {"flops_per_step", kernel.work.flops / steps},
                               {"share_of_peak", share_of_peak(kernel, peaks)}});
  }
  fmt::print("{}\n", json.dump(2));
}

void run(const ProfileOptions& options) {
  const RunSetup setup(load_config(options.config));
  const Peaks peaks{
      .bytes_per_second = measure_copied_bytes_per_second(*setup.backend),
      .flops_per_second = measure_matmul_flops_per_second(*setup.backend, setup.config.dtype)};
  const std::unique_ptr<Stopwatch> watch = setup.backend->stopwatch();
  Profiler profiler(*watch);
  CachingAllocator memory(setup.backend->upstream(), setup.budget_bytes,
                          setup.config.memory.segments);
  TrainObserver quiet;
  Trainer trainer(setup.trainer_setup(memory, quiet));
  trainer.step();  // segments are taken, code is loaded

  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  for (int i = 0; i < options.steps; ++i) trainer.step();
  const double step_seconds =
      std::chrono::duration<double>(Clock::now() - begin).count() / options.steps;
  trainer.set_profiler(&profiler);
  for (int i = 0; i < options.steps; ++i) trainer.step();
  (options.json ? print_kernels_json : print_kernels)(profiler.times(), options.steps, step_seconds,
                                                      peaks);
}

}  // namespace

Command add_profile(CLI::App& app) {
  const auto options = std::make_shared<ProfileOptions>();
  app.add_option("--steps", options->steps, "training steps to time")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_flag("--json", options->json, "print JSON");
  add_config_options(app, options->config);
  return [options] { run(*options); };
}

}  // namespace gpt2train
