// What becomes of a scenario, without running it: nanoGPT's tensors are simulated, and gpt2train's
// runs are dry.
#pragma once

#include <optional>
#include <string>

#include "gpt2train/train/plan.h"
#include "src/cli/scenarios.h"

namespace gpt2train {

struct Reproduction {
  NanogptMemory nanogpt, unlimited;     // within the card, and on one without limit
  std::int64_t nanogpt_batch = 0;       // the largest that fits
  Prediction full;                      // gpt2train, all logits at once and nothing recomputed
  std::optional<PredictedPlan> chosen;  // by default
};

// The settings of a scenario with all logits at once and, where they leave it open, nothing
// recomputed.
RunConfig with_full_logits(RunConfig config);

Reproduction reproduce(const Scenario& scenario);

// The claim beside what the simulation finds.
std::string verdict(const Scenario& scenario, const Reproduction& found);

}  // namespace gpt2train
