#include "src/cli/run_setup.h"

#include "gpt2train/train/attention.h"
#include "src/cli/machine.h"

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

RunSetup::RunSetup(const ConfigOptions& options)
    : RunSetup(load_config(options.file, options.overrides)) {}

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

}  // namespace gpt2train
