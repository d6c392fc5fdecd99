#include "src/cli/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "gpt2train/core/units.h"
#include "gpt2train/memory/report.h"
#include "src/config/text.h"
#include "src/train/json.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

std::vector<Candidate> listed(const RunConfig& config) {
  std::vector<Candidate> candidates;
  const auto add = [&](Logits logits, Moments moments) {
    const bool as_configured = logits == config.memory.logits && moments == config.memory.moments;
    for (const Plan& plan : candidate_plans(config)) {
      candidates.push_back(
          {.plan = plan, .logits = logits, .moments = moments, .as_configured = as_configured});
    }
  };
  add(config.memory.logits, config.memory.moments);
  for (const Logits logits : {Logits::kChunked, Logits::kFull}) {
    for (const Moments moments : {Moments::kFloat32, Moments::kBFloat16, Moments::kInt8}) {
      if (logits == config.memory.logits && moments == config.memory.moments) continue;
      add(logits, moments);
    }
  }
  return candidates;
}

double tokens_per_second(const Candidate& candidate) {
  return candidate.speed ? candidate.speed->tokens_per_second : 0.0;
}

RunConfig config_of(RunConfig config, const Candidate& candidate) {
  config.memory.logits = candidate.logits;
  config.memory.moments = candidate.moments;
  return config;
}

// What fits is worth telling if it takes less memory than all before it, or is measured or modelled
// to be the fastest; what does not, until something does.
std::vector<bool> worth_telling(const PlanAnswer& answer) {
  std::vector<bool> worth;
  constexpr std::size_t kNothingFits = std::numeric_limits<std::size_t>::max();
  std::size_t least = kNothingFits;
  double fastest = 0.0;
  for (const Candidate& candidate : answer.candidates) {
    if (!candidate.as_configured || !candidate.prediction.fits()) continue;
    fastest = std::max(fastest, tokens_per_second(candidate));
  }
  for (const Candidate& candidate : answer.candidates) {
    const std::size_t peak = candidate.prediction.stats.peak_allocated_bytes;
    const bool fits = candidate.prediction.fits();
    const bool best = fits && fastest > 0.0 && tokens_per_second(candidate) == fastest;
    worth.push_back(fits ? best || peak < least : least == kNothingFits);
    if (fits) least = std::min(least, peak);
  }
  return worth;
}

// The last column, where there is one.
std::string speed_cell(const Candidate& candidate, const SpeedBasis& speeds) {
  return speeds.known() ? fmt::format(" {:>10}", speed_text(candidate.speed)) : "";
}

std::string verdict(const Candidate& candidate, const PlanAnswer& answer) {
  const Prediction& prediction = candidate.prediction;
  if (prediction.failure) {
    return fmt::format("does not fit: {} {}", prediction.failure->tensor,
                       prediction.failure->shape);
  }
  const std::size_t reserved = prediction.stats.peak_reserved_bytes;
  return fmt::format("{:>12} {:>12} {:>12}{}{}", human_bytes(prediction.stats.peak_allocated_bytes),
                     human_bytes(reserved), human_bytes(answer.budget_bytes - reserved),
                     speed_cell(candidate, answer.speeds),
                     prediction.steady ? "" : "  slow: gives its cache back in every step");
}

std::string row(const Candidate& candidate, const RunConfig& config, const PlanAnswer& answer,
                char mark) {
  return fmt::format("{} {:>11}  {:>12}  {:<15} {}", mark, candidate.plan.micro_batch,
                     candidate.plan.accumulation, recompute_text(candidate.plan, config.model),
                     verdict(candidate, answer));
}

// Of each combination of settings that a run would not choose by itself, the first plan that fits.
std::string other_settings(const PlanAnswer& answer, const RunConfig& config) {
  std::string text;
  const Candidate* told = nullptr;
  for (const Candidate& candidate : answer.candidates) {
    if (candidate.as_configured || !candidate.prediction.fits()) continue;
    if (told && told->logits == candidate.logits && told->moments == candidate.moments) continue;
    told = &candidate;
    text += fmt::format("{}  logits {}, moments {}\n", row(candidate, config, answer, ' '),
                        name_of(candidate.logits), text_of(candidate.moments));
  }
  return text;
}

Json to_json(const Candidate& candidate, const SpeedBasis& basis) {
  Json json = to_json(candidate.plan);
  json["logits"] = name_of(candidate.logits);
  json["moments"] = text_of(candidate.moments);
  json["as_configured"] = candidate.as_configured;
  json.update(gpt2train::to_json(candidate.speed, basis));
  json["fits"] = candidate.prediction.fits();
  json["predicted_peak_bytes"] = candidate.prediction.stats.peak_allocated_bytes;
  json["predicted_reserved_bytes"] = candidate.prediction.stats.peak_reserved_bytes;
  if (candidate.prediction.failure) json["fails_at"] = candidate.prediction.failure->tensor;
  return json;
}

}  // namespace

PlanAnswer answer_plan(const KernelTable& kernels, const RunConfig& config,
                       std::size_t budget_bytes) {
  PlanAnswer answer{.budget_bytes = budget_bytes, .candidates = listed(config), .chosen = {}};
  std::vector<Candidate>& candidates = answer.candidates;
  for (Candidate& candidate : candidates) {
    candidate.prediction =
        predict(kernels, config_of(config, candidate), candidate.plan, budget_bytes);
  }
  const auto chosen =
      std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& candidate) {
        const bool allowed =
            config.memory.plan == PlanMode::kAuto || candidate.plan == configured_plan(config);
        return candidate.as_configured && allowed && candidate.prediction.fits();
      });
  if (chosen != candidates.end()) {
    answer.chosen = static_cast<std::size_t>(chosen - candidates.begin());
  }
  return answer;
}

void add_speeds(PlanAnswer& answer, const RunConfig& config, const PlanSpeeds& speeds) {
  answer.speeds = speeds.basis();
  for (Candidate& candidate : answer.candidates) {
    candidate.speed = speeds.of(config_of(config, candidate), candidate.plan);
  }
}

void choose_first_of(PlanAnswer& answer, const std::vector<Plan>& plans) {
  for (const Plan& plan : plans) {
    for (std::size_t i = 0; i < answer.candidates.size(); ++i) {
      const Candidate& candidate = answer.candidates[i];
      if (!candidate.as_configured || !(candidate.plan == plan)) continue;
      if (!candidate.prediction.fits()) break;
      answer.chosen = i;
      return;
    }
  }
}

std::string to_text(const PlanAnswer& answer, const RunConfig& config, bool all) {
  std::string text = fmt::format("budget {}\n\n", human_bytes(answer.budget_bytes));
  text += fmt::format(
      "  micro-batch  accumulation  recompute            peak     reserved       margin{}\n",
      answer.speeds.known() ? "   tokens/s" : "");
  const std::vector<bool> worth = worth_telling(answer);
  int left_out = 0;
  for (std::size_t i = 0; i < answer.candidates.size(); ++i) {
    const Candidate& candidate = answer.candidates[i];
    if (!candidate.as_configured) break;
    if (all || worth[i] || answer.chosen == i) {
      text += row(candidate, config, answer, answer.chosen == i ? '*' : ' ') + '\n';
    } else {
      ++left_out;
    }
  }
  if (left_out > 0) {
    text += fmt::format("  and {} that do not fit, or need no less than a faster one (--all)\n",
                        left_out);
  }
  if (const std::string others = other_settings(answer, config); !others.empty()) {
    text += "\nthe fastest with other settings\n" + others;
  }
  if (answer.speeds.known()) text += '\n' + speed_note(answer.speeds) + '\n';
  if (answer.chosen) {
    const Prediction& prediction = answer.candidates[*answer.chosen].prediction;
    text +=
        fmt::format("\n* is chosen: the fastest that fits\n\n{}\n", memory_table(prediction.stats));
    if (prediction.host_bytes > 0) {
      text += fmt::format("\nhost memory {}\n", human_bytes(prediction.host_bytes));
    }
  }
  return text;
}

Json to_json(const PlanAnswer& answer, const RunConfig& config) {
  // Where nothing fits, what the settings name says what is missing.
  const auto configured = std::find_if(
      answer.candidates.begin(), answer.candidates.end(),
      [&](const Candidate& candidate) { return candidate.plan == configured_plan(config); });
  const Candidate& told = answer.chosen ? answer.candidates[*answer.chosen] : *configured;
  const Prediction& prediction = told.prediction;
  Json json = {{"fits", answer.chosen.has_value()},
               {"budget_bytes", answer.budget_bytes},
               {"predicted_peak_bytes", prediction.stats.peak_allocated_bytes},
               {"predicted_reserved_bytes", prediction.stats.peak_reserved_bytes}};
  if (prediction.host_bytes > 0) json["predicted_host_bytes"] = prediction.host_bytes;
  json.update(to_json(told.plan));
  json["peak_by_category"] = gpt2train::to_json(prediction.stats.by_tag_at_peak);
  json["peak_by_phase"] = peaks_by_phase(prediction.stats);
  json["candidates"] = Json::array();
  for (const Candidate& candidate : answer.candidates) {
    json["candidates"].push_back(to_json(candidate, answer.speeds));
  }
  json["speeds"] = gpt2train::to_json(answer.speeds);
  return json;
}

TraceTable to_table(const PlanAnswer& answer, const RunConfig& config, const Plan& plan) {
  TraceTable table{
      .title = "Plans for this run",
      .columns = {"micro-batch", "accumulation", "recompute", "peak", "reserved", "tokens/s"}};
  const std::vector<bool> worth = worth_telling(answer);
  for (std::size_t i = 0; i < answer.candidates.size(); ++i) {
    const Candidate& candidate = answer.candidates[i];
    const bool in_force = candidate.plan == plan;
    if (!candidate.as_configured || !(worth[i] || in_force)) continue;
    const MemoryStats& stats = candidate.prediction.stats;
    const bool fails = candidate.prediction.failure.has_value();
    if (in_force) table.marked = table.rows.size();
    table.rows.push_back(
        {std::to_string(candidate.plan.micro_batch), std::to_string(candidate.plan.accumulation),
         recompute_text(candidate.plan, config.model),
         fails ? "does not fit" : human_bytes(stats.peak_allocated_bytes),
         fails ? "" : human_bytes(stats.peak_reserved_bytes), speed_text(candidate.speed)});
  }
  return table;
}

}  // namespace gpt2train
