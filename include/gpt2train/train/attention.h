// Whose attention a run has, from its settings and from what is there.
#pragma once

#include <string>

#include "gpt2train/ops/backend.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

// Why cuDNN's attention cannot train with these settings; empty where it can.
std::string cudnn_objection(const RunConfig& config);

// The backend's kernels with the attention that the settings ask for, for the length of the run.
// auto is cuDNN's where nothing stands against it here, and the native one otherwise. Throws
// DeviceError where cuDNN's is asked for and not to be had.
const KernelTable& kernels_for(const RunConfig& config, const Backend& backend);

// All that is known of them without a GPU. auto counts cuDNN's scratch wherever the settings allow
// its attention, as it is the larger.
const KernelTable& cuda_scratch_for(const RunConfig& config);

}  // namespace gpt2train
