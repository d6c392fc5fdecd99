#include "src/run/trained_model.h"

#include "gpt2train/config/load.h"
#include "gpt2train/train/checkpoint.h"
#include "gpt2train/train/load_weights.h"
#include "gpt2train/train/step.h"
#include "src/run/machine.h"
#include "src/run/run_setup.h"

namespace gpt2train {

std::string whole_checkpoint(const std::string& out_dir, const std::string& checkpoint,
                             const std::function<void(const std::string&)>& note) {
  if (checkpoint.empty()) {
    std::vector<std::string> rejected;
    const FoundCheckpoint found = newest_whole_checkpoint(out_dir, rejected);
    for (const std::string& problem : rejected) note("skipped " + problem);
    return found.path;
  }
  if (const auto problem = checkpoint_problem(checkpoint)) {
    throw CheckpointError(checkpoint, *problem);
  }
  return checkpoint;
}

TrainedModel::Source TrainedModel::find(const ModelSource& source, const Note& note) {
  std::vector<Override> overrides;
  for (const auto& [key, value] : {std::pair("memory.limit", source.limit),
                                   {"device", source.device},
                                   {"dtype", source.dtype},
                                   {"init_from", source.init_from}}) {
    if (!value.empty()) {
      overrides.push_back({.flag = std::string("--") + key, .key = key, .value = value});
    }
  }
  if (!source.init_from.empty()) {
    RunConfig config = load_config(source.config, overrides);
    const std::string path = find_weights(source.init_from);
    if (source.config.empty()) {
      const WeightsFile file = open_weights(path);
      if (!file.n_head || file.activation.empty()) {
        throw ConfigError("--config", concat(path,
                                             " does not tell the number of heads and the form of "
                                             "GELU: name settings that do, or a directory with "
                                             "config.json"));
      }
      config.model = model_of(file, config.model);
    }
    return {.config = std::move(config), .weights = path, .is_checkpoint = false};
  }
  const std::string path = whole_checkpoint(source.out_dir, source.checkpoint, note);
  return {.config = parse_config(read_checkpoint_config(path), path + "/config.yaml", overrides),
          .weights = path + "/model.safetensors",
          .is_checkpoint = true};
}

TrainedModel::TrainedModel(const ModelSource& source, Note note)
    : TrainedModel(find(source, note), note) {}

TrainedModel::TrainedModel(Source source, Note note)
    : note_(std::move(note)),
      config_(std::move(source.config)),
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
    for (const std::string& note : fitted.notes) note_(note);
    state_->load_weights(exec_, fitted.tensors, fitted.hf_orientation);
  }
  return {exec_, config_, state_->weights()};
}

}  // namespace gpt2train
