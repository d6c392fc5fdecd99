// Text from a trained model.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gpt2train/run/draw.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

// Which model: a checkpoint, or weights that came from elsewhere.
struct ModelSource {
  std::string out_dir = "out";  // a run, of which the newest whole checkpoint is taken
  std::string checkpoint = {};  // a checkpoint's directory, instead
  std::string init_from = {};   // weights instead of a checkpoint
  std::string config = {};      // of init_from's model; empty: what the weights tell of it
  std::string device = {};      // empty: as in the settings
  std::string dtype = {};       // likewise
  std::string limit = "auto";   // memory.limit
};

struct SampleRequest {
  std::string prompt = "\n";
  std::int64_t max_new_tokens = 500;
  bool stop_at_eot = false;  // end at the token between texts, which is then no part of it
  DrawSettings draw = {};
};

class Sampler {
 public:
  // Loads the model. `vocab` is the directory of its vocabulary; without one, text is bytes where
  // the model was trained on them, and else token numbers ("15 27 3"). Throws ConfigError,
  // DataError, CheckpointError, DeviceError, and OutOfMemoryError.
  explicit Sampler(const ModelSource& source, const std::string& vocab = {});
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  const RunConfig& config() const;
  // On the way there: checkpoints that were skipped, weights that were cut.
  const std::vector<std::string>& notes() const;

  // What goes on from the prompt, without it. `on_piece`, where given, is told each token's part as
  // it is drawn, not always whole characters. Throws ConfigError for a prompt that the model has no
  // tokens for and for a temperature below 0, and OutOfMemoryError.
  std::string sample(const SampleRequest& request,
                     const std::function<void(std::string_view)>& on_piece = {}) const;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

}  // namespace gpt2train
