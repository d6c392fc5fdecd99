// `gpt2train plan`: the memory of a run, known before it starts.
#include <fmt/format.h>

#include "gpt2train/core/units.h"
#include "gpt2train/memory/report.h"
#include "gpt2train/train/advice.h"
#include "gpt2train/train/attention.h"
#include "gpt2train/train/json.h"
#include "gpt2train/train/plan.h"
#include "src/cli/commands.h"
#include "src/cli/machine.h"
#include "src/cli/options.h"
#include "src/cli/plan_as.h"

namespace gpt2train {
namespace {

struct Candidate {
  Plan plan;
  Prediction prediction;
};

struct PlanOptions {
  ConfigOptions config;
  bool json = false;
  std::optional<NanogptForm> as;
};

nlohmann::ordered_json candidate_json(const Candidate& candidate) {
  nlohmann::ordered_json json = to_json(candidate.plan);
  json["fits"] = candidate.prediction.fits();
  json["predicted_peak_bytes"] = candidate.prediction.stats.peak_allocated_bytes;
  json["predicted_reserved_bytes"] = candidate.prediction.stats.peak_reserved_bytes;
  if (candidate.prediction.failure) json["fails_at"] = candidate.prediction.failure->tensor;
  return json;
}

void print_json(const std::vector<Candidate>& candidates, const Candidate& chosen,
                std::size_t budget) {
  nlohmann::ordered_json json = {{"fits", chosen.prediction.fits()}, {"budget_bytes", budget}};
  json["predicted_peak_bytes"] = chosen.prediction.stats.peak_allocated_bytes;
  json["predicted_reserved_bytes"] = chosen.prediction.stats.peak_reserved_bytes;
  if (chosen.prediction.host_bytes > 0) {
    json["predicted_host_bytes"] = chosen.prediction.host_bytes;
  }
  json.update(to_json(chosen.plan));
  json["peak_by_category"] = to_json(chosen.prediction.stats.by_tag_at_peak);
  json["peak_by_phase"] = peaks_by_phase(chosen.prediction.stats);
  json["candidates"] = nlohmann::ordered_json::array();
  for (const Candidate& candidate : candidates)
    json["candidates"].push_back(candidate_json(candidate));
  fmt::print("{}\n", json.dump(2));
}

void print_table(const ModelConfig& model, const std::vector<Candidate>& candidates,
                 const Candidate& chosen, std::size_t budget) {
  fmt::print("budget {}\n\n", human_bytes(budget));
  fmt::print("  micro-batch  accumulation  recompute            peak     reserved\n");
  for (const Candidate& candidate : candidates) {
    const MemoryStats& stats = candidate.prediction.stats;
    std::string verdict;
    if (candidate.prediction.failure) {
      verdict = fmt::format("does not fit: {} {}", candidate.prediction.failure->tensor,
                            candidate.prediction.failure->shape);
    } else {
      verdict = fmt::format(
          "{:>12} {:>12}{}", human_bytes(stats.peak_allocated_bytes),
          human_bytes(stats.peak_reserved_bytes),
          candidate.prediction.steady ? "" : "  slow: gives its cache back in every step");
    }
    fmt::print("{} {:>11}  {:>12}  {:<15} {}\n", candidate.plan == chosen.plan ? '*' : ' ',
               candidate.plan.micro_batch, candidate.plan.accumulation,
               recompute_text(candidate.plan, model), verdict);
  }
  if (chosen.prediction.fits()) {
    fmt::print("\n{}\n", memory_table(chosen.prediction.stats));
  }
  if (chosen.prediction.host_bytes > 0) {
    fmt::print("\nhost memory {}\n", human_bytes(chosen.prediction.host_bytes));
  }
}

struct Target {
  const KernelTable& kernels;
  std::size_t budget_bytes;
};

// The device itself, or, where CUDA is asked for and not there, what is known of it without one.
Target target_of(const RunConfig& config) {
  std::unique_ptr<Backend> backend;
  try {
    backend = open_backend(config.device);
  } catch (const DeviceError&) {
    const bool known =
        !config.memory.device.empty() || config.memory.limit.kind == MemoryLimit::Kind::kBytes;
    if (!known) throw;
    return {cuda_scratch_for(config), resolve_budget(config.memory, {})};
  }
  check_offload(config, *backend);
  return {kernels_for(config, *backend), resolve_budget(config.memory, backend->info())};
}

void run(const PlanOptions& options) {
  const RunConfig config = load_config(options.config.file, options.config.overrides);
  const Target target = target_of(config);
  const KernelTable& kernels = target.kernels;
  const std::size_t budget = target.budget_bytes;
  if (options.as) return plan_as(*options.as, config, budget, options.json);

  std::vector<Candidate> candidates;
  std::optional<Candidate> chosen;
  if (config.memory.plan == PlanMode::kOff) {
    const Plan plan = configured_plan(config);
    chosen = Candidate{plan, predict(kernels, config, plan, budget)};
  }
  for (const Plan& plan : candidate_plans(config)) {
    candidates.push_back({plan, predict(kernels, config, plan, budget)});
    if (!chosen && candidates.back().prediction.fits()) chosen = candidates.back();
  }
  const bool fits = chosen.has_value();
  if (!fits) chosen = candidates.back();
  if (options.json) {
    print_json(candidates, *chosen, budget);
  } else {
    print_table(config.model, candidates, *chosen, budget);
  }
  if (!fits) {
    throw OutOfMemoryError(chosen->prediction.failure.value_or(OutOfMemoryError::Facts{}),
                           to_text(advise(kernels, config, budget)));
  }
}

}  // namespace

Command add_plan(CLI::App& app) {
  const auto options = std::make_shared<PlanOptions>();
  app.add_flag("--json", options->json, "print JSON");
  add_plan_as(app, options->as);
  add_config_options(app, options->config);
  return [options] { run(*options); };
}

}  // namespace gpt2train
