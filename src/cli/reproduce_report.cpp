#include "src/cli/reproduce_report.h"

#include <fmt/format.h>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

std::string gib(std::size_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / static_cast<double>(kGiB));
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

std::string split_text(const Plan& plan, const RunConfig& config) {
  return fmt::format("{} x {}, recompute {}", plan.micro_batch, plan.accumulation,
                     recompute_text(plan, config.model));
}

std::string split_text(const Scenario& scenario, const Reproduction& found) {
  return found.chosen ? split_text(found.chosen->plan, config_of(scenario)) : "nothing fits";
}

std::string default_text(const Reproduction& found) {
  return found.chosen ? gib(found.chosen->prediction.stats.peak_reserved_bytes) : "";
}

// "in full", "reduced by 16"
std::string size_text(const ScenarioRun& run) {
  return run.reduced_by == 1 ? "in full" : fmt::format("reduced by {}", run.reduced_by);
}

// What one of the two runs did, with bytes to compare.
std::string run_text(const ShortRun& run, const RunConfig& config) {
  if (!run.ran()) return run.error;
  std::string text;
  if (run.ran_out) {
    text = fmt::format("ran out at {} {} in {}, went on as ", run.ran_out->tensor,
                       run.ran_out->shape, run.ran_out->scope);
  }
  text += fmt::format("{}; {} bytes predicted, {} measured{}", split_text(run.plan, config),
                      run.predicted.peak_allocated_bytes, run.measured.peak_allocated_bytes,
                      run.as_predicted() ? "" : ", NOT as predicted");
  return text + (run.is_finite() ? "" : "; losses are NOT finite");
}

std::string outcome_text(const ScenarioRun& run) {
  if (run.holds()) return "as predicted";
  if (run.ran_out_as_expected()) return "NOT as predicted";
  return fmt::format("NOT as in full, where {} does not fit",
                     run.expected_tensor.empty() ? "nothing" : run.expected_tensor);
}

Json to_json(const Plan& plan) {
  return {{"micro_batch", plan.micro_batch},
          {"accumulation", plan.accumulation},
          {"recompute", name_of(plan.recompute)},
          {"recompute_layers", plan.block_layers}};
}

Json to_json(const ShortRun& run) {
  Json json = {{"ran", run.ran()}};
  if (!run.ran()) json["error"] = run.error;
  json["ran_out_at"] = nullptr;
  if (run.ran_out) {
    json["ran_out_at"] = {{"tensor", run.ran_out->tensor},
                          {"shape", run.ran_out->shape},
                          {"scope", run.ran_out->scope},
                          {"requested_bytes", run.ran_out->requested_bytes}};
  }
  json["recovered_to"] = to_json(run.plan);
  json["predicted_peak_bytes"] = run.predicted.peak_allocated_bytes;
  json["measured_peak_bytes"] = run.measured.peak_allocated_bytes;
  json["predicted_reserved_bytes"] = run.predicted.peak_reserved_bytes;
  json["measured_reserved_bytes"] = run.measured.peak_reserved_bytes;
  json["losses"] = run.losses;
  json["losses_finite"] = run.is_finite();
  return json;
}

Json to_json(const ScenarioRun& run) {
  return {{"reduced_by", run.reduced_by},
          {"device", run.device},
          {"dtype", name_of(run.config.dtype)},
          {"budget_bytes", run.config.memory.limit.bytes},
          {"holds", run.holds()},
          {"by_default", to_json(run.by_default)},
          {"full_logits", to_json(run.full_logits)}};
}

}  // namespace

Json to_json(const Scenario& scenario, const Reproduction& found, const ScenarioRun* run) {
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
    json["predicted_peak_bytes"] = found.chosen->prediction.stats.peak_allocated_bytes;
    json["recovered_to"] = to_json(found.chosen->plan);
  }
  json["verdict"] = verdict(scenario, found);
  if (run != nullptr) json["run"] = to_json(*run);
  return json;
}

std::string to_text(const Scenario& scenario, const Reproduction& found, const ScenarioRun* run) {
  std::string text = fmt::format("{:<4} {}\n", scenario.id, scenario.title);
  const auto line = [&](std::string_view what, const std::string& value) {
    text += fmt::format("     {:<18} {}\n", what, value);
  };
  line("the note", fmt::format("{}: {}", scenario.claim == Claim::kFits ? "would fit" : "runs out",
                               scenario.claim_text));
  line(name_of(scenario.form), nanogpt_text(scenario, found));
  line("logits: full", full_text(found));
  line("by default", split_text(scenario, found) + ", " + default_text(found));
  line("the note's claim", verdict(scenario, found));
  if (run != nullptr) {
    line("run " + size_text(*run),
         fmt::format("{}, {}, budget {}: {}", run->device, name_of(run->config.dtype),
                     human_bytes(run->config.memory.limit.bytes), outcome_text(*run)));
    line("  logits: full", run_text(run->full_logits, run->config));
    line("  by default", run_text(run->by_default, run->config));
  }
  return text + '\n';
}

std::string to_markdown(const Scenario& scenario, const Reproduction& found,
                        const ScenarioRun* run) {
  std::string row =
      fmt::format("| {} | {} | {}: {} | {} | {} | {}: {} | {} |", scenario.id, scenario.title,
                  scenario.claim == Claim::kFits ? "would fit" : "runs out", scenario.claim_text,
                  nanogpt_text(scenario, found), full_text(found), default_text(found),
                  split_text(scenario, found), verdict(scenario, found));
  if (run != nullptr) {
    row += fmt::format(" {}, {} | {} | {} |", size_text(*run), outcome_text(*run),
                       run_text(run->full_logits, run->config),
                       run_text(run->by_default, run->config));
  }
  return row + '\n';
}

std::string markdown_head(bool with_runs) {
  std::string names =
      "| | run | the note | nanoGPT | with all logits at once | gpt2train by default | "
      "the note's claim |";
  std::string rule = "|---|---|---|---|---|---|---|";
  if (with_runs) {
    names += " carried out | with all logits at once | by default |";
    rule += "---|---|---|";
  }
  return names + '\n' + rule + '\n';
}

}  // namespace gpt2train
