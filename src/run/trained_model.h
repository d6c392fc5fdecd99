// A trained model that is only read: from a checkpoint, or from weights that came
// from elsewhere.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "gpt2train/ops/backend.h"
#include "gpt2train/run/sampler.h"
#include "gpt2train/train/inference.h"

namespace gpt2train {

// The directory `checkpoint`; where it is empty, the newest whole one of the run in out_dir, and
// `note` is told of those that were skipped. Throws CheckpointError.
std::string whole_checkpoint(const std::string& out_dir, const std::string& checkpoint,
                             const std::function<void(const std::string&)>& note);

class TrainedModel {
 public:
  // Something the user should know that is no error, such as a checkpoint that was skipped.
  using Note = std::function<void(const std::string&)>;

  // Reads settings and opens the device; takes no memory there. Throws ConfigError (also where
  // neither weights nor settings tell all of the model), DataError, CheckpointError and
  // DeviceError.
  TrainedModel(const ModelSource& source, Note note);

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
  static Source find(const ModelSource& source, const Note& note);
  TrainedModel(Source source, Note note);

  const Note note_;
  const RunConfig config_;
  const std::string weights_;
  const bool is_checkpoint_;
  std::unique_ptr<Backend> backend_;
  CachingAllocator memory_;
  Exec exec_;
  std::optional<ModelState> state_;
};

}  // namespace gpt2train
