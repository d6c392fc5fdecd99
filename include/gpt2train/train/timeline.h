// What happens at which iteration; the real loop and the dry run ask the same questions.
#pragma once

#include <algorithm>
#include <cstdint>

#include "gpt2train/train/run_config.h"

namespace gpt2train {

// Before the update of `iteration`: at 0, every eval_interval, and after the last update.
inline bool evaluation_due(const RunConfig& config, std::int64_t iteration) {
  return iteration % config.evaluation.eval_interval == 0 || iteration >= config.training.max_iters;
}

// max_iters updates are made: iterations 0 to max_iters - 1.
inline bool run_ends_at(const RunConfig& config, std::int64_t iteration) {
  return iteration >= config.training.max_iters || config.evaluation.eval_only;
}

inline std::int64_t next_evaluation(const RunConfig& config, std::int64_t iteration) {
  const std::int64_t interval = config.evaluation.eval_interval;
  return std::min((iteration / interval + 1) * interval, config.training.max_iters);
}

}  // namespace gpt2train
