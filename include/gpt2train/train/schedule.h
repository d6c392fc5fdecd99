// Learning rate by iteration, as nanoGPT has it.
#pragma once

#include <cstdint>

#include "gpt2train/train/config.h"

namespace gpt2train {

// Linear warm-up lr * (it + 1) / (warmup + 1), cosine to min_lr at lr_decay_iters, constant after.
double learning_rate(const OptimizerConfig& config, std::int64_t iteration);

}  // namespace gpt2train
