#include "src/cli/explain.h"

#include <fmt/format.h>

#include <tuple>

#include "gpt2train/core/units.h"
#include "gpt2train/memory/report.h"
#include "src/train/json.h"

namespace gpt2train {
namespace {

// Alternatives of one setting that are worth telling.
constexpr int kMostAlternatives = 4;

constexpr std::size_t kNoBudget = CachingAllocator::kNoBudget;

const char* text_of(ChangeEffect effect) {
  switch (effect) {
    case ChangeEffect::kNone:
      return "the same mathematics";
    case ChangeEffect::kRounding:
      return "other rounding";
    case ChangeEffect::kModel:
      return "another model";
  }
  return "?";
}

const char* name_of(ChangeEffect effect) {
  switch (effect) {
    case ChangeEffect::kNone:
      return "none";
    case ChangeEffect::kRounding:
      return "rounding";
    case ChangeEffect::kModel:
      return "model";
  }
  return "?";
}

std::vector<Change> told_changes(const KernelTable& kernels, const RunConfig& config) {
  std::vector<Change> told;
  std::string setting;
  int alternatives = 0;
  for (Change& change : single_changes(config, kernels.has_own_memory)) {
    if (change.setting != setting) alternatives = 0;
    setting = change.setting;
    if (++alternatives <= kMostAlternatives) told.push_back(std::move(change));
  }
  return told;
}

std::string signed_bytes(std::int64_t bytes) {
  return bytes < 0 ? "-" + human_bytes(static_cast<std::size_t>(-bytes))
                   : human_bytes(static_cast<std::size_t>(bytes));
}

std::string text_of(const OutOfMemoryError::Facts& failure) {
  return fmt::format("runs out at {} {} {}, which asks for {} in {}\nwith {} in use\n",
                     failure.tensor, failure.shape, failure.dtype,
                     human_bytes(failure.requested_bytes), failure.scope,
                     human_bytes(failure.in_use_bytes));
}

std::string changes_text(const Explanation& explanation) {
  std::string text = fmt::format("\n{:<54} {:>12} {:>12}\n", "one change", "peak", "saves");
  std::optional<ChangeEffect> effect;
  for (std::size_t i = 0; i < explanation.changes.size(); ++i) {
    const ExplainedChange& one = explanation.changes[i];
    if (effect != one.change.effect) text += fmt::format("  {}\n", text_of(one.change.effect));
    effect = one.change.effect;
    text += fmt::format("{}   {:<50} {:>12} {:>12}{}\n", explanation.smallest == i ? '*' : ' ',
                        one.change.flags, human_bytes(one.peak_bytes),
                        signed_bytes(one.saved_bytes), one.fits ? "  fits" : "");
  }
  return text;
}

std::string rules_text(const std::vector<RuleOfThumb>& rules) {
  std::string text = fmt::format("\n{:<26} {:>26} {:>12} {:>12}\n", "rule of thumb", "says",
                                 "gpt2train", "nanoGPT");
  for (const RuleOfThumb& rule : rules) {
    text += fmt::format(
        "  {:<24} {:>26} {:>12} {:>12}\n", rule.of,
        fmt::format("{} - {}", human_bytes(rule.low_bytes), human_bytes(rule.high_bytes)),
        human_bytes(rule.ours_bytes), human_bytes(rule.nanogpt_bytes));
    if (!rule.formula.empty()) text += fmt::format("    {}\n", rule.formula);
  }
  return text;
}

}  // namespace

Explanation explain(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes) {
  Explanation explanation{.config = config,
                          .budget_bytes = budget_bytes,
                          .plan = configured_plan(config),
                          .needs = predict(kernels, config, configured_plan(config), kNoBudget)};
  const Prediction within = predict(kernels, config, explanation.plan, budget_bytes);
  explanation.fits = within.fits();
  explanation.failure = within.failure;
  explanation.rules = rules_of_thumb(config, explanation.needs);

  const auto peak = static_cast<std::int64_t>(explanation.needs.stats.peak_allocated_bytes);
  for (Change& change : told_changes(kernels, config)) {
    const Plan plan = configured_plan(change.config);
    const MemoryStats needs = predict(kernels, change.config, plan, kNoBudget).stats;
    // A tight budget makes the allocator give its cache back, and so need less of it.
    const bool fits = needs.peak_reserved_bytes <= budget_bytes ||
                      predict(kernels, change.config, plan, budget_bytes).fits();
    explanation.changes.push_back(
        {.change = std::move(change),
         .peak_bytes = needs.peak_allocated_bytes,
         .saved_bytes = peak - static_cast<std::int64_t>(needs.peak_allocated_bytes),
         .fits = fits});
  }
  if (explanation.fits) return explanation;
  const auto rank = [](const ExplainedChange& one) {
    return std::tuple(one.change.effect, one.saved_bytes);
  };
  for (std::size_t i = 0; i < explanation.changes.size(); ++i) {
    const ExplainedChange& one = explanation.changes[i];
    if (!one.fits) continue;
    std::optional<std::size_t>& smallest = explanation.smallest;
    if (!smallest || rank(one) < rank(explanation.changes[*smallest])) smallest = i;
  }
  return explanation;
}

std::string to_text(const Explanation& explanation) {
  const MemoryStats& stats = explanation.needs.stats;
  const Plan& plan = explanation.plan;
  std::string text = fmt::format(
      "the settings as they are: micro-batch {} x accumulation {}, recompute {}\n"
      "need {}, reserved {}: the budget of {} {}\n",
      plan.micro_batch, plan.accumulation, recompute_text(plan, explanation.config.model),
      human_bytes(stats.peak_allocated_bytes), human_bytes(stats.peak_reserved_bytes),
      human_bytes(explanation.budget_bytes), explanation.fits ? "holds it" : "does not hold it");
  if (explanation.failure) text += text_of(*explanation.failure);
  if (!explanation.fits) text += "\n" + memory_table(stats) + "\n";
  text += changes_text(explanation);
  if (explanation.smallest) {
    text += fmt::format("* the smallest that fits: {}\n",
                        explanation.changes[*explanation.smallest].change.flags);
  } else if (!explanation.fits) {
    text += "  none of them is enough\n";
  }
  return text + rules_text(explanation.rules);
}

nlohmann::ordered_json to_json(const Explanation& explanation) {
  const MemoryStats& stats = explanation.needs.stats;
  nlohmann::ordered_json json = to_json(explanation.plan);
  json["fits"] = explanation.fits;
  json["predicted_peak_bytes"] = stats.peak_allocated_bytes;
  json["predicted_reserved_bytes"] = stats.peak_reserved_bytes;
  json["peak_phase"] = name_of(stats.peak_phase);
  json["peak_scope"] = stats.peak_scope;
  json["peak_by_category"] = to_json(stats.by_tag_at_peak);
  json["largest_tensors"] = nlohmann::ordered_json::array();
  for (const TensorBytes& tensor : stats.largest_at_peak) {
    json["largest_tensors"].push_back({{"tensor", tensor.tensor},
                                       {"category", name_of(tensor.tag)},
                                       {"count", tensor.count},
                                       {"bytes", tensor.bytes}});
  }
  json["failing_tensor"] = nullptr;
  if (explanation.failure) {
    json["failing_tensor"] = explanation.failure->tensor;
    json["failing_shape"] = explanation.failure->shape;
    json["failing_scope"] = explanation.failure->scope;
    json["requested_bytes"] = explanation.failure->requested_bytes;
  }
  json["changes"] = nlohmann::ordered_json::array();
  for (const ExplainedChange& one : explanation.changes) {
    json["changes"].push_back({{"change", one.change.flags},
                               {"setting", one.change.setting},
                               {"effect", name_of(one.change.effect)},
                               {"predicted_peak_bytes", one.peak_bytes},
                               {"saved_bytes", one.saved_bytes},
                               {"fits", one.fits}});
  }
  json["smallest_change"] = nullptr;
  if (explanation.smallest) {
    json["smallest_change"] = explanation.changes[*explanation.smallest].change.flags;
  }
  json["rules_of_thumb"] = nlohmann::ordered_json::array();
  for (const RuleOfThumb& rule : explanation.rules) {
    json["rules_of_thumb"].push_back({{"of", rule.of},
                                      {"formula", rule.formula},
                                      {"low_bytes", rule.low_bytes},
                                      {"high_bytes", rule.high_bytes},
                                      {"predicted_bytes", rule.ours_bytes},
                                      {"nanogpt_bytes", rule.nanogpt_bytes}});
  }
  return json;
}

}  // namespace gpt2train
