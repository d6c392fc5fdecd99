// A trained model for the commands that only read one: from a checkpoint, or from weights that came
// from elsewhere.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "gpt2train/ops/backend.h"
#include "gpt2train/train/inference.h"

namespace gpt2train {

struct ModelOptions {
  std::string out_dir = "out";
  std::string checkpoint;     // empty: the newest whole one of out_dir
  std::string init_from;      // weights instead of a checkpoint
  std::string config;         // of init_from's model; empty: what the weights tell of it
  std::string device, dtype;  // empty: as in the settings
  std::string limit = "auto";
};

void add_model_options(CLI::App& app, ModelOptions& options);

class TrainedModel {
 public:
  // Reads settings and opens the device; takes no memory there. Skipped checkpoints are named on
  // stderr. Throws ConfigError, CheckpointError and DeviceError.
  explicit TrainedModel(const ModelOptions& options);

  const RunConfig& config() const { return config_; }
  std::size_t budget_bytes() const { return memory_.budget_bytes(); }
  const KernelTable& kernels() const { return backend_->kernels(); }
  const MemoryStats& stats() const { return memory_.stats(); }

  // Throws DataError where the file does not have the weights.
  InferenceModel load();

 private:
  struct Source {
    RunConfig config = {};
    std::string weights = {};  // a file or a directory
    bool is_checkpoint = false;
  };
  static Source find(const ModelOptions& options);
  explicit TrainedModel(Source source);

  const RunConfig config_;
  const std::string weights_;
  const bool is_checkpoint_;
  std::unique_ptr<Backend> backend_;
  CachingAllocator memory_;
  Exec exec_;
  std::optional<ModelState> state_;
};

}  // namespace gpt2train
