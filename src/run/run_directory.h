// A directory that a run writes into, for whoever finds it later.
#pragma once

#include "gpt2train/train/run_config.h"

namespace gpt2train {

// Writes out_dir/README.txt, which says what each file is, and out_dir/config.yaml, the settings
// that the run has. A disk that refuses them does not stop the run.
void explain_run_directory(const RunConfig& config);

}  // namespace gpt2train
