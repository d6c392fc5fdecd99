// Why a run needs what it needs, and which single change makes it fit: every figure by dry run.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/train/changes.h"
#include "gpt2train/train/plan.h"
#include "src/cli/rules_of_thumb.h"

namespace gpt2train {

struct ExplainedChange {
  Change change;
  std::size_t peak_bytes = 0;
  std::int64_t saved_bytes = 0;  // of the peak; a change may also add to it
  bool fits = false;             // the budget
};

struct Explanation {
  RunConfig config;
  std::size_t budget_bytes = 0;
  Plan plan;                                            // as the settings have it
  Prediction needs;                                     // without a budget
  bool fits = false;                                    // the budget
  std::optional<OutOfMemoryError::Facts> failure = {};  // within the budget
  std::vector<ExplainedChange> changes = {};
  std::optional<std::size_t> smallest = {};  // of changes, where the plan does not fit: the
                                             // gentlest effect, then the least that it saves
  std::vector<RuleOfThumb> rules = {};
};

Explanation explain(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes);

std::string to_text(const Explanation& explanation);
nlohmann::ordered_json to_json(const Explanation& explanation);

}  // namespace gpt2train
