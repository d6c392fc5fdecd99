#include "src/run/run_files.h"

#include <chrono>

#include "gpt2train/config/load.h"
#include "src/run/run_directory.h"
#include "src/run/version.h"

namespace gpt2train {
namespace {

MetricsFile metrics_file(const RunConfig& config) {
  prepare_out_dir(config);
  return {config.out_dir + "/metrics.jsonl",
          config.init_from == "resume" ? MetricsFile::Mode::kAppend : MetricsFile::Mode::kFresh};
}

}  // namespace

StartEvent start_of(const RunSetup& setup) {
  const RunConfig& config = setup.config;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {.unix_seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count(),
          .version = version(),
          .backend = setup.kernels.name,
          .device = setup.backend->info().name,
          .parameters = parameter_count(config.model),
          .tokens_per_step = config.training.effective_batch() * config.model.block_size,
          .last_step = config.training.max_iters,
          .resumed = config.init_from == "resume",
          .settings = settings_of(config)};
}

RunFiles::RunFiles(const RunConfig& config)
    : metrics_(metrics_file(config)), csv_(config.out_dir), page_(config.out_dir), all_({}) {
  explain_run_directory(config);
  std::vector<TrainObserver*> list = {&metrics_, &csv_, &page_};
  if (config.logging.tensorboard) list.push_back(&tensorboard_.emplace(config.out_dir));
  all_ = ObserverList(list);
}

}  // namespace gpt2train
