#include "src/cli/trained_model.h"

#include <fmt/format.h>

#include "gpt2train/config/load.h"
#include "gpt2train/train/checkpoint.h"
#include "gpt2train/train/load_weights.h"
#include "gpt2train/train/step.h"
#include "src/cli/machine.h"
#include "src/cli/run_setup.h"

namespace gpt2train {

void add_model_options(CLI::App& app, ModelOptions& options) {
  app.add_option("--out_dir", options.out_dir, "run whose newest whole checkpoint to use")
      ->capture_default_str();
  app.add_option("--checkpoint", options.checkpoint,
                 "a checkpoint directory, instead of --out_dir");
  CLI::Option* const weights = app.add_option("--init_from", options.init_from,
                                              "weights from elsewhere, instead of a checkpoint");
  app.add_option("-c,--config", options.config, "settings that describe the model of --init_from")
      ->type_name("FILE")
      ->needs(weights);
  app.add_option("--device", options.device, "auto, cpu or cuda, instead of the settings' device");
  app.add_option("--dtype", options.dtype,
                 "float32, bfloat16 or float16, instead of the settings'");
  app.add_option("--memory.limit,--limit", options.limit,
                 "memory budget: bytes, a fraction, or auto")
      ->capture_default_str();
}

TrainedModel::Source TrainedModel::find(const ModelOptions& options) {
  std::vector<Override> overrides;
  for (const auto& [key, value] : {std::pair("memory.limit", options.limit),
                                   {"device", options.device},
                                   {"dtype", options.dtype},
                                   {"init_from", options.init_from}}) {
    if (!value.empty()) {
      overrides.push_back({.flag = std::string("--") + key, .key = key, .value = value});
    }
  }
  if (!options.init_from.empty()) {
    RunConfig config = load_config(options.config, overrides);
    const std::string path = find_weights(options.init_from);
    if (options.config.empty()) config.model = model_of(open_weights(path), config.model);
    return {.config = std::move(config), .weights = path, .is_checkpoint = false};
  }
  std::string path = options.checkpoint;
  if (path.empty()) {
    std::vector<std::string> rejected;
    path = newest_whole_checkpoint(options.out_dir, rejected).path;
    for (const std::string& problem : rejected) fmt::print(stderr, "skipped {}\n", problem);
  } else if (const auto problem = checkpoint_problem(path)) {
    throw CheckpointError(path, *problem);
  }
  return {.config = parse_config(read_checkpoint_config(path), path + "/config.yaml", overrides),
          .weights = path + "/model.safetensors",
          .is_checkpoint = true};
}

TrainedModel::TrainedModel(const ModelOptions& options) : TrainedModel(find(options)) {}

TrainedModel::TrainedModel(Source source)
    : config_(std::move(source.config)),
      weights_(std::move(source.weights)),
      is_checkpoint_(source.is_checkpoint),
      backend_(open_backend(config_.device)),
      memory_(backend_->upstream(), resolve_budget(config_.memory, backend_->info()),
              config_.memory.segments),
      exec_(backend_->kernels(), memory_, Compute::kRun, backend_->stream(),
            {.tf32 = config_.tf32, .tune = config_.tune_matmul}) {
  check_dtype(config_, *backend_);
}

InferenceModel TrainedModel::load() {
  state_.emplace(exec_, config_.model, precision_of(config_), Purpose::kInference);
  if (is_checkpoint_) {
    state_->load_weights(exec_, SafetensorsFile(weights_), false);
  } else {
    const WeightsFile file = open_weights(weights_);
    const FittedWeights fitted = fit_weights(file, config_.model);
    for (const std::string& note : fitted.notes) fmt::print(stderr, "{}\n", note);
    state_->load_weights(exec_, fitted.tensors, fitted.hf_orientation);
  }
  return {exec_, config_, state_->weights()};
}

}  // namespace gpt2train
