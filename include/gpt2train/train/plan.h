// A memory plan: the knobs that trade memory for time without changing what a step computes. Plans
// are measured, not estimated: a dry run of the real training code under the real budget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/memory/allocator.h"
#include "gpt2train/model/config.h"
#include "gpt2train/train/run_config.h"
#include "kernels/table.h"

namespace gpt2train {

// micro_batch * accumulation is the same in every plan of a run: the samples of a step, their order
// and their random numbers do not depend on memory.
struct Plan {
  std::int64_t micro_batch = 0;
  std::int64_t accumulation = 0;
  Recompute recompute = Recompute::kNone;
  std::int64_t block_layers = 0;  // with kBlock, how many of the first blocks; else 0

  bool operator==(const Plan&) const = default;
};

// "none", "gelu", ..., "block", or "block x 6" where other blocks recompute less.
std::string recompute_text(const Plan& plan, const ModelConfig& model);

// What a dry run of a whole run under a budget found.
struct Prediction {
  MemoryStats stats = {};
  std::size_t host_bytes = 0;  // of host memory, for what is kept off the device
  bool steady = false;         // from some step on, no segment is taken or given back
  std::optional<OutOfMemoryError::Facts> failure = {};  // of the first request that cannot be met

  // Fits, and without giving the cache back in every step, which fits too but is slow.
  bool fits() const { return !failure && steady; }
};

// The plan that the settings name, before memory has a say.
Plan configured_plan(const RunConfig& config);

// Every plan that the settings allow: the configured one, then smaller micro-batches (any divisor
// of the effective batch) and, where `recompute: auto`, more recomputation; fastest first by
// relative_cost().
std::vector<Plan> candidate_plans(const RunConfig& config);

// Time a token relative to a large micro-batch without recomputation. Only the order matters:
// recomputation costs 1, 2 and 33 % (the arithmetic of a block's forward pass, in proportion where
// only some blocks do it), and a micro-batch
// of n tokens leaves the device idle for the fixed cost of about 32 tokens.
double relative_cost(const RunConfig& config, const Plan& plan);

// Runs set-up, evaluations and steps as the schedule orders them from `first_iteration` on, with
// `kernels` for their scratch sizes only, until they repeat. Allocates nothing.
Prediction predict(const KernelTable& kernels, const RunConfig& config, const Plan& plan,
                   std::size_t budget_bytes, std::int64_t first_iteration = 0);

struct PredictedPlan {
  Plan plan;
  Prediction prediction;
};

// The first candidate that fits the budget.
std::optional<PredictedPlan> choose_plan(const KernelTable& kernels, const RunConfig& config,
                                         const std::vector<Plan>& candidates,
                                         std::size_t budget_bytes,
                                         std::int64_t first_iteration = 0);

}  // namespace gpt2train
