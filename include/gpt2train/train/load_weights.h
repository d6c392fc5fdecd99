// Weights from elsewhere: where `init_from` finds them, and whether they fit the settings.
#pragma once

#include <string>
#include <vector>

#include "gpt2train/data/weights_file.h"
#include "gpt2train/model/config.h"

namespace gpt2train {

// What `init_from` names: a file or a directory as it is; gpt2, gpt2-medium, gpt2-large and gpt2-xl
// as ./NAME or in Hugging Face's cache ($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub).
// Throws DataError with the command that downloads a model that is in neither.
std::string find_weights(const std::string& init_from);

// The model that the weights are for, as far as the file tells; the rest (n_head where it does not,
// dropout) is from `otherwise`. Throws DataError where tensors are missing that every GPT-2 has.
ModelConfig model_of(const WeightsFile& file, const ModelConfig& otherwise);

struct FittedWeights {
  StoredTensors tensors;           // what ModelState::load_weights reads
  bool hf_orientation;             // of the linear layers: (in, out)
  std::vector<std::string> notes;  // differences that were accepted
};

// The weights as a model of `config` takes them. The position table may have more rows than
// block_size: the first are taken, as by nanoGPT's crop_block_size. Biases that are all zero may be
// left out, and zeros stand for those of a file without any: the function is the same. Every other
// difference in size, and a head of its own, throws DataError with the settings that would fit.
FittedWeights fit_weights(const WeightsFile& file, const ModelConfig& config);

}  // namespace gpt2train
