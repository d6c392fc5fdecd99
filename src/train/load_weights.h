// Weights from elsewhere: which file `init_from` means, and how its linear layers are stored.
#pragma once

#include <string>

#include "gpt2train/data/safetensors.h"

namespace gpt2train {

// A safetensors file itself, or model.safetensors in a directory.
std::string weights_file(const std::string& init_from);

// Hugging Face's GPT-2 stores linear layers (in, out); our checkpoints say otherwise in their
// metadata.
bool is_hf_orientation(const SafetensorsFile& file);

}  // namespace gpt2train
