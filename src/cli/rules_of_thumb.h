// Memory by rule of thumb, as notes and forums have it, beside what a run needs.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "gpt2train/train/plan.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

struct RuleOfThumb {
  std::string of;                     // "activations"
  std::string formula;                // as it is told
  std::size_t low_bytes, high_bytes;  // it gives a range, or two of the same
  std::size_t ours_bytes;             // of the plan
  std::size_t nanogpt_bytes;          // of nanoGPT, compiled, with the same batch_size
};

// For the settings as they are, batch_size at once. `prediction` is of that plan, without a budget.
std::vector<RuleOfThumb> rules_of_thumb(const RunConfig& config, const Prediction& prediction);

}  // namespace gpt2train
