#include "gpt2train/train/advice.h"

#include <algorithm>

#include "gpt2train/core/units.h"
#include "gpt2train/train/changes.h"

namespace gpt2train {
namespace {

// The least that any candidate reserves. A trial under that very budget confirms it, because a
// tight budget makes the allocator give its cache back.
std::size_t smallest_reserved(const KernelTable& kernels, const RunConfig& config,
                              std::size_t budget_bytes) {
  std::size_t smallest = CachingAllocator::kNoBudget;
  // The last micro-batch is 1: whatever the recomputation, nothing smaller is allowed.
  for (const Plan& plan : candidate_plans(config)) {
    if (plan.micro_batch != 1) continue;
    const Prediction prediction = predict(kernels, config, plan, budget_bytes);
    if (prediction.fits()) smallest = std::min(smallest, prediction.stats.peak_reserved_bytes);
  }
  return smallest;
}

}  // namespace

Advice advise(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes) {
  Advice advice;
  advice.smallest_budget_bytes = smallest_reserved(kernels, config, CachingAllocator::kNoBudget);

  std::string suggested;  // one suggestion a setting: the smallest change of it that fits
  for (const Change& change : single_changes(config, kernels.has_own_memory)) {
    if (change.setting == "batch_size") continue;  // a micro-batch of 1 did not fit
    if (change.setting == suggested) continue;
    const std::size_t reserved = smallest_reserved(kernels, change.config, budget_bytes);
    if (reserved > budget_bytes) continue;
    advice.suggestions.push_back({change.flags, reserved});
    suggested = change.setting;
  }
  return advice;
}

std::string to_text(const Advice& advice) {
  std::string text =
      concat("the smallest memory.limit that works here is ", advice.smallest_budget_bytes,
             " bytes (", human_bytes(advice.smallest_budget_bytes), ')');
  const char* lead = "; to fit this one, any of ";
  for (const Suggestion& suggestion : advice.suggestions) {
    text += concat(lead, suggestion.change, " (", human_bytes(suggestion.reserved_bytes), ')');
    lead = ", ";
  }
  return text;
}

}  // namespace gpt2train
