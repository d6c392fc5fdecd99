// The answer of `gpt2train plan`: every plan that was tried, the one that a run would take, and how
// both are told.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/memory/trace.h"
#include "gpt2train/train/plan.h"
#include "src/cli/plan_speeds.h"

namespace gpt2train {

struct Candidate {
  Plan plan;
  Logits logits = Logits::kChunked;
  Moments moments = Moments::kFloat32;
  bool as_configured = true;  // logits and moments are what the settings say: a run may choose it
  Prediction prediction = {};
  std::optional<SpeedEstimate> speed = {};
};

struct PlanAnswer {
  std::size_t budget_bytes = 0;
  std::vector<Candidate> candidates;  // those as configured first; each part fastest first
  std::optional<std::size_t> chosen;  // of candidates; empty: nothing fits
  SpeedBasis speeds = {};             // what the candidates' rest on
};

// Dry runs of all plans that the settings allow, and of those with other logits and moments.
PlanAnswer answer_plan(const KernelTable& kernels, const RunConfig& config,
                       std::size_t budget_bytes);

// Fills in how fast each candidate is, as far as that is known.
void add_speeds(PlanAnswer& answer, const RunConfig& config, const PlanSpeeds& speeds);

// The first of `plans` that fits is the one that is chosen: a run's order, where it was tuned.
void choose_first_of(PlanAnswer& answer, const std::vector<Plan>& plans);

// Of the plans that fit, `all` or those that take less memory than every faster one.
std::string to_text(const PlanAnswer& answer, const RunConfig& config, bool all);
nlohmann::ordered_json to_json(const PlanAnswer& answer, const RunConfig& config);

// The same plans for the page of a memory trace, `plan` marked.
TraceTable to_table(const PlanAnswer& answer, const RunConfig& config, const Plan& plan);

}  // namespace gpt2train
