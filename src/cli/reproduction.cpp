#include "src/cli/reproduction.h"

#include <fmt/format.h>

#include "gpt2train/core/units.h"
#include "gpt2train/train/attention.h"

namespace gpt2train {

RunConfig with_full_logits(RunConfig config) {
  config.memory.logits = Logits::kFull;
  config.memory.recompute = config.memory.recompute.value_or(Recompute::kNone);
  return config;
}

Reproduction reproduce(const Scenario& scenario) {
  constexpr std::size_t kNoLimit = CachingAllocator::kNoBudget / 16;
  const RunConfig config = config_of(scenario);
  const std::size_t budget = config.memory.limit.bytes;
  const NanogptRun run = {
      .model = config.model,
      .batch_size = config.training.batch_size,
      .gradient_accumulation_steps = config.training.gradient_accumulation_steps,
      .dtype = config.dtype,
      .form = scenario.form};
  const RunConfig full = with_full_logits(config);
  const KernelTable& kernels = cuda_scratch_for(config);
  return {.nanogpt = simulate_nanogpt(run, budget, scenario.segments),
          .unlimited = simulate_nanogpt(run, kNoLimit, scenario.segments),
          .nanogpt_batch = largest_nanogpt_batch(run, budget, scenario.segments),
          .full = predict(kernels, full, configured_plan(full), budget),
          .chosen = choose_plan(kernels, config, candidate_plans(config), budget)};
}

std::string verdict(const Scenario& scenario, const Reproduction& found) {
  if (!scenario.nanogpt_has_it) {
    return found.chosen ? "holds for gpt2train" : "does not hold";
  }
  const bool fits = !found.nanogpt.failure;
  std::string text = (scenario.claim == Claim::kFits) == fits ? "holds" : "does not hold";
  if (scenario.high_gib > 0.0) {
    const double needs =
        static_cast<double>(found.unlimited.stats.peak_reserved_bytes) / static_cast<double>(kGiB);
    if (needs < scenario.low_gib)
      text += fmt::format("; the figure is too high, {:.2f} GiB", needs);
    if (needs > scenario.high_gib)
      text += fmt::format("; the figure is too low, {:.2f} GiB", needs);
  }
  return text;
}

}  // namespace gpt2train
