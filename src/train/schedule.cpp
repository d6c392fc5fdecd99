#include "gpt2train/train/schedule.h"

#include <cmath>
#include <numbers>

namespace gpt2train {

double learning_rate(const OptimizerConfig& config, std::int64_t iteration) {
  if (!config.decay_lr) return config.learning_rate;
  if (iteration < config.warmup_iters) {
    return config.learning_rate * static_cast<double>(iteration + 1) /
           static_cast<double>(config.warmup_iters + 1);
  }
  if (iteration > config.lr_decay_iters) return config.min_lr;
  const std::int64_t span = config.lr_decay_iters - config.warmup_iters;
  if (span == 0) return config.min_lr;
  const double progress =
      static_cast<double>(iteration - config.warmup_iters) / static_cast<double>(span);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return config.min_lr + cosine * (config.learning_rate - config.min_lr);
}

}  // namespace gpt2train
