// `gpt2train --config FILE`: a training run.
#include <fmt/format.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "gpt2train/data/loader.h"
#include "gpt2train/memory/trace.h"
#include "gpt2train/train/checkpoint.h"
#include "gpt2train/train/metrics.h"
#include "gpt2train/train/trainer.h"
#include "src/cli/commands.h"
#include "src/cli/machine.h"
#include "src/cli/options.h"
#include "src/cli/progress.h"

namespace gpt2train {
namespace {

volatile std::sig_atomic_t signal_seen = 0;

void note_signal(int) {
  signal_seen = 1;
}

// The first signal asks the run to save and stop; the second ends it the default way.
void catch_signals() {
  struct sigaction action = {};
  action.sa_handler = note_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

// Refuses a fresh start where checkpoints of another run would be mixed with this one's.
void prepare_out_dir(const RunConfig& config) {
  std::error_code error;
  std::filesystem::create_directories(config.out_dir, error);
  if (error) throw CheckpointError(config.out_dir, "cannot be made: " + error.message());
  if (config.init_from == "resume") return;
  const std::vector<FoundCheckpoint> found = list_checkpoints(config.out_dir);
  if (!found.empty()) {
    throw CheckpointError(config.out_dir,
                          concat("holds checkpoints up to iteration ", found.front().iteration,
                                 "; go on with --init_from=resume or choose another --out_dir"));
  }
}

void check_precision(const RunConfig& config, const Backend& backend) {
  if (!backend.computes(config.dtype)) {
    throw ConfigError("dtype",
                      "float16 needs a CUDA device; the CPU trains in float32 or bfloat16");
  }
}

void run(const ConfigOptions& options) {
  RunConfig config = load_config(options.file, options.overrides);
  const std::unique_ptr<Backend> backend = open_backend(config.device);
  check_precision(config, *backend);
  const std::size_t budget = resolve_budget(config.memory, backend->info());

  const TokenSource train(config.data.train, config.data.format, config.model.vocab_size);
  const TokenSource val(config.data.val, config.data.format, config.model.vocab_size);
  config.data.format = train.format();  // for whoever samples from the checkpoint
  const auto loader = [&](const TokenSource& source, const char* name, RandomUse use) {
    return Loader(source, name, config.model.block_size, config.seed, use);
  };
  const Loader train_data = loader(train, "data.train", RandomUse::kTrainSample);
  const Loader train_eval_data = loader(train, "data.train", RandomUse::kEvalSample);
  const Loader val_data = loader(val, "data.val", RandomUse::kEvalSample);

  prepare_out_dir(config);
  const bool resuming = config.init_from == "resume";
  MetricsFile metrics(config.out_dir + "/metrics.jsonl",
                      resuming ? MetricsFile::Mode::kAppend : MetricsFile::Mode::kFresh);
  Progress progress(config);
  ObserverList observers({&metrics, &progress});
  fmt::print("data:  {} training tokens, {} validation tokens\n", train.token_count(),
             val.token_count());
  const double peak_flops = measure_matmul_flops_per_second(*backend, config.dtype);

  CachingAllocator memory(backend->upstream(), budget, config.memory.segments);
  std::optional<MemoryTrace> trace;
  if (!config.memory.trace.empty()) trace.emplace(memory, config.memory.trace);
  fmt::print("{}", device_memory_lines(*backend, 0));
  catch_signals();
  Trainer trainer({.kernels = backend->kernels(),
                   .memory = memory,
                   .config = config,
                   .config_yaml = dump_config(config),
                   .train_data = train_data,
                   .train_eval_data = train_eval_data,
                   .val_data = val_data,
                   .observer = observers,
                   .interrupted = [] { return signal_seen != 0; },
                   .peak_flops_per_second = peak_flops,
                   .stream = backend->stream()});
  trainer.run();
  fmt::print("{}", device_memory_lines(*backend, memory.stats().reserved_bytes));
}

}  // namespace

Command add_train(CLI::App& app) {
  const auto options = std::make_shared<ConfigOptions>();
  add_config_options(app, *options);
  return [options] {
    if (options->file.empty() && options->overrides.empty()) {
      throw ConfigError("--config", "name a YAML file of settings; see gpt2train --help");
    }
    run(*options);
  };
}

}  // namespace gpt2train
