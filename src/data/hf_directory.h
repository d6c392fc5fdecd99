// A directory as Hugging Face's save_pretrained writes it: weights, in one file or in shards, and
// config.json.
#pragma once

#include <string>

#include "gpt2train/data/weights_file.h"

namespace gpt2train {

// Also one with nanoGPT's ckpt.pt or llm.c's model.bin alone.
WeightsFile open_weights_directory(const std::string& directory);

// Without "_orig_mod." and "transformer.".
StoredTensors with_plain_names(const StoredTensors& file);

}  // namespace gpt2train
