// Where what was measured on this machine is remembered from run to run.
#pragma once

#include <string>

namespace gpt2train {

// $GPT2TRAIN_CACHE_DIR, else $XDG_CACHE_HOME/gpt2train, else ~/.cache/gpt2train; empty where none
// of them is known. It need not be there yet.
std::string cache_folder();

}  // namespace gpt2train
