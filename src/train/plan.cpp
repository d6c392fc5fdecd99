#include "gpt2train/train/plan.h"

#include <algorithm>

#include "gpt2train/memory/upstream.h"
#include "gpt2train/ops/exec.h"
#include "gpt2train/train/evaluate.h"
#include "gpt2train/train/evaluation_sample.h"
#include "gpt2train/train/state.h"
#include "gpt2train/train/step.h"
#include "gpt2train/train/timeline.h"

namespace gpt2train {
namespace {

// A dry run whose segments still move after this many steps in a row, or rounds, is unsteady.
constexpr int kMaxSteps = 4;
constexpr int kMaxRounds = 8;

// One round: the evaluation that is due, then steps up to the next one; repeats are left out.
// Returns the iteration that the next round begins with.
std::int64_t dry_round(const Exec& exec, const RunConfig& config, const Plan& plan,
                       ModelState& state, std::int64_t iteration) {
  CachingAllocator& memory = exec.memory();
  if (evaluation_due(config, iteration)) {
    for (const char* split : {"train", "val"}) {
      static_cast<void>(evaluate_split(exec, config, plan, state, nullptr, split, {}));
    }
    static_cast<void>(write_sample({exec, config, state.weights()}, {}));
  }
  { const PhaseScope checkpoint(memory, Phase::kCheckpoint); }  // which takes nothing of its own
  if (run_ends_at(config, iteration)) return iteration;
  const std::int64_t next = next_evaluation(config, iteration);
  for (int steps = 0; steps < kMaxSteps && iteration < next; ++steps, ++iteration) {
    const std::uint64_t generation = memory.segment_generation();
    static_cast<void>(train_step(exec, config, plan, state, nullptr, {.iteration = iteration}, {}));
    if (memory.segment_generation() == generation) break;
  }
  return next;
}

// The numbers of blocks to try: what the settings say, or quarters of all where they leave it open.
std::vector<std::int64_t> block_layers(const RunConfig& config, Recompute level) {
  if (level != Recompute::kBlock) return {0};
  const std::int64_t all = config.model.n_layer;
  const std::int64_t asked = config.memory.recompute_layers;
  if (asked > 0) return {std::min(asked, all)};
  if (config.memory.recompute) return {all};
  std::vector<std::int64_t> layers;
  for (int quarter = 1; quarter <= 4; ++quarter) {
    const std::int64_t some = (all * quarter + 3) / 4;
    if (layers.empty() || some > layers.back()) layers.push_back(some);
  }
  return layers;
}

}  // namespace

Plan configured_plan(const RunConfig& config) {
  const Recompute recompute = config.memory.recompute.value_or(Recompute::kNone);
  return {.micro_batch = config.training.batch_size,
          .accumulation = config.training.gradient_accumulation_steps,
          .recompute = recompute,
          .block_layers = block_layers(config, recompute).back()};
}

std::string recompute_text(const Plan& plan, const ModelConfig& model) {
  const bool some = plan.recompute == Recompute::kBlock && plan.block_layers < model.n_layer;
  return some ? concat("block x ", plan.block_layers) : std::string(name_of(plan.recompute));
}

double relative_cost(const RunConfig& config, const Plan& plan) {
  constexpr double kFixedTokens = 32.0;
  double recompute = 0.0;
  switch (plan.recompute) {
    case Recompute::kNone:
      break;
    case Recompute::kGelu:
      recompute = 0.01;
      break;
    case Recompute::kGeluLayerNorm:
      recompute = 0.02;
      break;
    case Recompute::kBlock:
      recompute = 0.02 + 0.31 * static_cast<double>(plan.block_layers) /
                             static_cast<double>(config.model.n_layer);
      break;
  }
  const auto tokens = static_cast<double>(plan.micro_batch * config.model.block_size);
  return (1.0 + recompute) * (1.0 + kFixedTokens / tokens);
}

std::vector<Plan> candidate_plans(const RunConfig& config) {
  std::vector<Plan> plans;
  const std::int64_t effective = config.training.effective_batch();
  for (std::int64_t micro = config.training.batch_size; micro >= 1; --micro) {
    if (effective % micro != 0) continue;
    for (const Recompute level : kRecomputeLevels) {
      if (config.memory.recompute.value_or(level) != level) continue;
      for (const std::int64_t layers : block_layers(config, level)) {
        plans.push_back({.micro_batch = micro,
                         .accumulation = effective / micro,
                         .recompute = level,
                         .block_layers = layers});
      }
    }
  }
  std::stable_sort(plans.begin(), plans.end(), [&](const Plan& a, const Plan& b) {
    return relative_cost(config, a) < relative_cost(config, b);
  });
  return plans;
}

Prediction predict(const KernelTable& kernels, const RunConfig& config, const Plan& plan,
                   std::size_t budget_bytes, std::int64_t first_iteration) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, budget_bytes, config.memory.segments);
  CachingAllocator host_memory(upstream, CachingAllocator::kNoBudget);
  Exec exec(kernels, memory, Compute::kDryRun);
  exec.set_host_memory(&host_memory);
  Prediction prediction;
  try {
    ModelState state(exec, config.model, precision_of(config), Purpose::kTraining,
                     config.memory.offload);
    std::int64_t iteration = first_iteration;
    for (int round = 0; round < kMaxRounds && !prediction.steady; ++round) {
      const std::uint64_t generation = memory.segment_generation();
      const std::int64_t next = dry_round(exec, config, plan, state, iteration);
      // A whole round that moved no segment is what every later one will be.
      const bool whole = evaluation_due(config, iteration);
      const bool moved = memory.segment_generation() != generation;
      prediction.steady = (whole && !moved) || next == iteration;
      iteration = next;
    }
  } catch (const OutOfMemoryError& error) {
    prediction.failure = error.facts();
  }
  prediction.stats = memory.stats();
  prediction.host_bytes = host_memory.stats().peak_reserved_bytes;
  return prediction;
}

std::optional<PredictedPlan> choose_plan(const KernelTable& kernels, const RunConfig& config,
                                         const std::vector<Plan>& candidates,
                                         std::size_t budget_bytes, std::int64_t first_iteration) {
  for (const Plan& plan : candidates) {
    Prediction prediction = predict(kernels, config, plan, budget_bytes, first_iteration);
    if (prediction.fits()) return PredictedPlan{plan, std::move(prediction)};
  }
  return std::nullopt;
}

}  // namespace gpt2train
