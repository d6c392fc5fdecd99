// `gpt2train reproduce`: what became of the runs that the notes describe, in nanoGPT and here.
// Nothing is trained: nanoGPT's tensors are simulated, and gpt2train's runs are dry.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/train/attention.h"
#include "gpt2train/train/plan.h"
#include "src/cli/commands.h"
#include "src/cli/scenarios.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

struct ReproduceOptions {
  bool json = false, markdown = false;
  std::string write;  // a folder for the scenarios' files
};

struct Reproduction {
  NanogptMemory nanogpt, unlimited;  // within the card, and on one without limit
  std::int64_t nanogpt_batch = 0;    // the largest that fits
  Prediction full;                   // gpt2train, all logits at once and nothing recomputed
  std::optional<ChosenPlan> chosen;  // by default
};

Reproduction run(const Scenario& scenario) {
  constexpr std::size_t kNoLimit = CachingAllocator::kNoBudget / 16;
  const RunConfig config = config_of(scenario);
  const std::size_t budget = config.memory.limit.bytes;
  const NanogptRun run = {
      .model = config.model,
      .batch_size = config.training.batch_size,
      .gradient_accumulation_steps = config.training.gradient_accumulation_steps,
      .dtype = config.dtype,
      .form = scenario.form};
  RunConfig full = config;
  full.memory.logits = Logits::kFull;
  full.memory.recompute = full.memory.recompute.value_or(Recompute::kNone);
  const KernelTable& kernels = cuda_scratch_for(config);
  return {.nanogpt = simulate_nanogpt(run, budget, scenario.segments),
          .unlimited = simulate_nanogpt(run, kNoLimit, scenario.segments),
          .nanogpt_batch = largest_nanogpt_batch(run, budget, scenario.segments),
          .full = predict(kernels, full, configured_plan(full), budget),
          .chosen = choose_plan(kernels, config, candidate_plans(config), budget)};
}

std::string gib(std::size_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / static_cast<double>(kGiB));
}

// The claim beside what the simulation finds.
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

std::string nanogpt_text(const Scenario& scenario, const Reproduction& found) {
  if (!scenario.nanogpt_has_it) return "has no such setting";
  const std::optional<NanogptFailure>& failure = found.nanogpt.failure;
  if (!failure) return fmt::format("{}, fits", gib(found.unlimited.stats.peak_reserved_bytes));
  return fmt::format("{}; dies in {} at {} {}, {} with {} live; holds batch_size {}",
                     gib(found.unlimited.stats.peak_reserved_bytes), name_of(failure->phase),
                     failure->tensor, failure->shape, gib(failure->requested_bytes),
                     gib(failure->live_bytes), found.nanogpt_batch);
}

std::string full_text(const Reproduction& found) {
  if (found.full.fits()) return gib(found.full.stats.peak_reserved_bytes);
  const std::optional<OutOfMemoryError::Facts>& failure = found.full.failure;
  if (!failure) return "fits, giving its cache back in every step";
  return fmt::format("fails at {} {} in {}", failure->tensor, failure->shape, failure->scope);
}

std::string plan_text(const Scenario& scenario, const Reproduction& found) {
  if (!found.chosen) return "nothing fits";
  const Plan& plan = found.chosen->plan;
  return fmt::format("{} x {}, recompute {}", plan.micro_batch, plan.accumulation,
                     recompute_text(plan, config_of(scenario).model));
}

std::string default_text(const Reproduction& found) {
  return found.chosen ? gib(found.chosen->prediction.stats.peak_reserved_bytes) : "";
}

Json to_json(const Scenario& scenario, const Reproduction& found) {
  const std::optional<NanogptFailure>& failure = found.nanogpt.failure;
  Json json = {{"id", scenario.id},
               {"title", scenario.title},
               {"claim", scenario.claim_text},
               {"budget_bytes", config_of(scenario).memory.limit.bytes},
               {"fits", !failure},
               {"failing_tensor", nullptr},
               {"failing_shape", nullptr},
               {"failing_phase", nullptr},
               {"requested_bytes", nullptr},
               {"live_bytes_at_failure", nullptr}};
  if (failure) {
    json["failing_tensor"] = failure->tensor;
    json["failing_shape"] = failure->shape;
    json["failing_phase"] = name_of(failure->phase);
    json["requested_bytes"] = failure->requested_bytes;
    json["live_bytes_at_failure"] = failure->live_bytes;
  }
  json["nanogpt"] = {{"form", name_of(scenario.form)},
                     {"needed_bytes", found.unlimited.stats.peak_allocated_bytes},
                     {"needed_reserved_bytes", found.unlimited.stats.peak_reserved_bytes},
                     {"max_batch_size", found.nanogpt_batch}};
  json["full_logits"] = {{"fits", found.full.fits()},
                         {"predicted_peak_bytes", found.full.stats.peak_allocated_bytes},
                         {"fails_at", nullptr}};
  if (found.full.failure) json["full_logits"]["fails_at"] = found.full.failure->tensor;
  json["predicted_peak_bytes"] = nullptr;
  json["recovered_to"] = nullptr;
  if (found.chosen) {
    const Plan& plan = found.chosen->plan;
    json["predicted_peak_bytes"] = found.chosen->prediction.stats.peak_allocated_bytes;
    json["recovered_to"] = {{"micro_batch", plan.micro_batch},
                            {"accumulation", plan.accumulation},
                            {"recompute", name_of(plan.recompute)},
                            {"recompute_layers", plan.block_layers}};
  }
  json["verdict"] = verdict(scenario, found);
  return json;
}

void print_text(const Scenario& scenario, const Reproduction& found) {
  fmt::print("{:<4} {}\n", scenario.id, scenario.title);
  fmt::print("     the note           {}: {}\n",
             scenario.claim == Claim::kFits ? "would fit" : "runs out", scenario.claim_text);
  fmt::print("     {:<18} {}\n", name_of(scenario.form), nanogpt_text(scenario, found));
  fmt::print("     logits: full       {}\n", full_text(found));
  fmt::print("     by default         {}, {}\n", plan_text(scenario, found), default_text(found));
  fmt::print("     the note's claim   {}\n\n", verdict(scenario, found));
}

void print_markdown(const Scenario& scenario, const Reproduction& found) {
  fmt::print("| {} | {} | {}: {} | {} | {} | {}: {} | {} |\n", scenario.id, scenario.title,
             scenario.claim == Claim::kFits ? "would fit" : "runs out", scenario.claim_text,
             nanogpt_text(scenario, found), full_text(found), default_text(found),
             plan_text(scenario, found), verdict(scenario, found));
}

void write_configs(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const Scenario& scenario : scenarios()) {
    const std::filesystem::path path = folder / fmt::format("{}.yaml", scenario.id);
    std::ofstream file(path);
    file << scenario_yaml(scenario);
    if (!file.flush()) throw DataError(path.string(), "cannot be written");
  }
}

void run(const ReproduceOptions& options) {
  if (!options.write.empty()) return write_configs(options.write);
  Json json = {{"scenarios", Json::array()}};
  if (options.markdown) {
    fmt::print(
        "| | run | the note | nanoGPT | with all logits at once | gpt2train by default | "
        "the note's claim |\n|---|---|---|---|---|---|---|\n");
  }
  for (const Scenario& scenario : scenarios()) {
    const Reproduction found = run(scenario);
    if (options.json) {
      json["scenarios"].push_back(to_json(scenario, found));
    } else {
      (options.markdown ? print_markdown : print_text)(scenario, found);
    }
  }
  if (options.json) fmt::print("{}\n", json.dump(2));
}

}  // namespace

Command add_reproduce(CLI::App& app) {
  const auto options = std::make_shared<ReproduceOptions>();
  CLI::Option* const json = app.add_flag("--json", options->json, "print JSON");
  app.add_flag("--markdown", options->markdown, "print a table for a page")->excludes(json);
  app.add_option("--write", options->write, "write each scenario's settings into this folder");
  return [options] { run(*options); };
}

}  // namespace gpt2train
