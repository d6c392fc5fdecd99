#include "src/run/run_setup.h"

#include <algorithm>
#include <filesystem>

#include "gpt2train/config/load.h"
#include "gpt2train/train/attention.h"
#include "gpt2train/train/checkpoint.h"
#include "src/run/machine.h"

namespace gpt2train {
namespace {

const RunConfig& checked(const RunConfig& config, const Backend& backend) {
  check_dtype(config, backend);
  check_offload(config, backend);
  return config;
}

Loader loader(const TokenSource& source, const char* name, const RunConfig& config, RandomUse use) {
  return {source, name, config.model.block_size, config.seed, use};
}

}  // namespace

void check_dtype(const RunConfig& config, const Backend& backend) {
  if (!backend.computes(config.dtype)) {
    throw ConfigError("dtype",
                      "float16 needs a CUDA device; the CPU trains in float32 or bfloat16");
  }
}

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

RunSetup::RunSetup(RunConfig loaded)
    : config(std::move(loaded)),
      backend(open_backend(config.device)),
      kernels(kernels_for(checked(config, *backend), *backend)),
      budget_bytes(resolve_budget(config.memory, backend->info())),
      train(config.data.train, config.data.format, config.model.vocab_size),
      val(config.data.val, config.data.format, config.model.vocab_size),
      train_data(loader(train, "data.train", config, RandomUse::kTrainSample)),
      train_eval_data(loader(train, "data.train", config, RandomUse::kEvalSample)),
      val_data(loader(val, "data.val", config, RandomUse::kEvalSample)) {
  config.data.format = train.format();  // for whoever samples from the checkpoint
}

TrainerSetup RunSetup::trainer_setup(CachingAllocator& memory, TrainObserver& observer) const {
  return {.backend = *backend,
          .kernels = kernels,
          .memory = memory,
          .config = config,
          .config_yaml = dump_config(config),
          .train_data = train_data,
          .train_eval_data = train_eval_data,
          .val_data = val_data,
          .observer = observer};
}

std::function<std::size_t()> RunSetup::budget_now(const CachingAllocator& memory) const {
  const bool follows_free_memory =
      config.memory.limit.kind == MemoryLimit::Kind::kAuto && config.memory.device.empty();
  return [this, &memory, follows_free_memory] {
    DeviceInfo info = backend->info();
    info.available_bytes += memory.stats().reserved_bytes;
    const std::size_t free = resolve_budget({}, info);
    return follows_free_memory ? free : std::min(free, budget_bytes);
  };
}

}  // namespace gpt2train
