#include "gpt2train/train/history.h"

#include <algorithm>
#include <cmath>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

ValueRange range_of(double value) {
  if (!std::isfinite(value)) return {};
  return {.count = 1, .sum = value, .low = value, .high = value};
}

void join(StepSpan& span, const StepSpan& next) {
  span.last = next.last;
  span.count += next.count;
  for (std::size_t q = 0; q < kQuantityCount; ++q) span.values[q].add(next.values[q]);
}

void join_pairs(std::vector<StepSpan>& spans) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < spans.size(); i += 2, ++kept) {
    StepSpan span = spans[i];
    if (i + 1 < spans.size()) join(span, spans[i + 1]);
    spans[kept] = span;
  }
  spans.resize(kept);
}

std::string in_words(const Plan& plan) {
  std::string recompute = name_of(plan.recompute);
  if (plan.recompute == Recompute::kBlock) recompute += concat(" x ", plan.block_layers);
  return concat("micro-batch ", plan.micro_batch, " x accumulation ", plan.accumulation,
                ", recompute ", recompute);
}

}  // namespace

void ValueRange::add(const ValueRange& other) {
  if (other.count == 0) return;
  low = count == 0 ? other.low : std::min(low, other.low);
  high = count == 0 ? other.high : std::max(high, other.high);
  sum += other.sum;
  count += other.count;
}

const EvalEvent* RunRecord::best() const {
  const auto lowest = std::min_element(
      evaluations.begin(), evaluations.end(),
      [](const EvalEvent& a, const EvalEvent& b) { return a.val_loss < b.val_loss; });
  return lowest == evaluations.end() ? nullptr : &*lowest;
}

void RunHistory::occurred(std::int64_t step, std::string text, bool out_of_memory) {
  std::vector<Occurrence>& list = record_.occurrences;
  if (list.size() == kMostOccurrences) list.erase(list.begin());
  list.push_back({.step = step, .text = std::move(text), .out_of_memory = out_of_memory});
}

void RunHistory::on_start(const StartEvent& event) {
  record_.start = event;
  record_.end.reset();
}

void RunHistory::on_plan(const PlanEvent& event) {
  budget_bytes_ = event.budget_bytes == CachingAllocator::kNoBudget ? 0 : event.budget_bytes;
  const bool resumed = record_.start && record_.start->resumed;
  occurred(event.step,
           concat(resumed ? "resumed with " : "begun with ", in_words(event.plan),
                  event.lowered ? " (lowered to fit the budget)"
                  : event.tuned ? " (by what was measured)"
                                : "",
                  "; predicted peak ", human_bytes(event.prediction.stats.peak_allocated_bytes)));
}

void RunHistory::on_step(const StepEvent& event) {
  StepSpan step{.first = event.step, .last = event.step, .count = 1};
  const std::array<double, kQuantityCount> values = {event.loss, event.learning_rate,
                                                     event.grad_norm, event.tokens_per_second};
  std::transform(values.begin(), values.end(), step.values.begin(), range_of);

  std::vector<StepSpan>& spans = record_.steps;
  if (!spans.empty() && spans.back().count < steps_a_span_) {
    join(spans.back(), step);
  } else {
    if (spans.size() == kMostSpans) {
      join_pairs(spans);
      steps_a_span_ *= 2;
    }
    spans.push_back(step);
  }
  if (record_.memory.empty() || record_.memory.back().peak_by_category != event.peak_by_category ||
      record_.memory.back().budget_bytes != budget_bytes_) {
    record_.memory.push_back({.step = event.step,
                              .peak_by_category = event.peak_by_category,
                              .budget_bytes = budget_bytes_});
  }
  record_.last = event;
  record_.skipped += event.skipped ? 1 : 0;
  record_.step_seconds += event.step_seconds;
  record_.peak_bytes = std::max(record_.peak_bytes, event.peak_bytes);
}

// A resumed run repeats the evaluation that its checkpoint was written after.
void RunHistory::on_evaluation(const EvalEvent& event) {
  std::vector<EvalEvent>& list = record_.evaluations;
  if (!list.empty() && list.back().step == event.step) list.pop_back();
  list.push_back(event);
}

void RunHistory::on_out_of_memory(const OutOfMemoryEvent& event) {
  occurred(event.step,
           concat(OutOfMemoryError(event.facts).what(), "; going on with ", in_words(event.to)),
           true);
}

void RunHistory::on_grow(const GrowEvent& event) {
  budget_bytes_ = event.budget_bytes;
  occurred(event.step, concat("memory is free again: going on with ", in_words(event.to),
                              " instead of micro-batch ", event.from.micro_batch));
}

void RunHistory::on_end(const EndEvent& event) {
  record_.end = event;
  record_.peak_bytes = std::max(record_.peak_bytes, event.stats.peak_allocated_bytes);
}

}  // namespace gpt2train
