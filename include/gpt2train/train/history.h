// A run as its curves are drawn and its figures compared: what its events told, in memory that is
// bounded however long it is.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/train/observer.h"

namespace gpt2train {

enum class Quantity : std::uint8_t { kLoss, kLearningRate, kGradNorm, kTokensPerSecond };
inline constexpr std::size_t kQuantityCount = 4;

// Of several steps. What is not finite does not count.
struct ValueRange {
  std::int64_t count = 0;
  double sum = 0.0, low = 0.0, high = 0.0;

  void add(const ValueRange& other);
  double mean() const { return sum / static_cast<double>(count); }  // with a count above 0
};

struct StepSpan {
  std::int64_t first = 0, last = 0;  // steps, both in it
  std::int64_t count = 0;            // of steps that were seen
  std::array<ValueRange, kQuantityCount> values = {};
  const ValueRange& operator[](Quantity q) const { return values[static_cast<std::size_t>(q)]; }
};

// From `step` on, until the next one.
struct MemorySpan {
  std::int64_t step = 0;
  TagBytes peak_by_category = {};
  std::size_t budget_bytes = 0;  // 0: none
};

// Something that a user may ask about when curves have a kink.
struct Occurrence {
  std::int64_t step = 0;
  std::string text = {};
  bool out_of_memory = false;
};

struct RunRecord {
  std::optional<StartEvent> start = {};  // the newest
  std::vector<StepSpan> steps = {};
  std::vector<EvalEvent> evaluations = {};
  std::vector<MemorySpan> memory = {};
  std::vector<Occurrence> occurrences = {};  // the newest ones
  std::optional<StepEvent> last = {};        // the newest
  std::optional<EndEvent> end = {};          // since the newest start
  std::int64_t skipped = 0;                  // updates
  double step_seconds = 0.0;                 // of all steps together
  std::size_t peak_bytes = 0;                // of all plans

  std::int64_t steps_done() const { return last ? last->step + 1 : 0; }
  // The evaluation with the lowest validation loss; null without any.
  const EvalEvent* best() const;
};

class RunHistory final : public TrainObserver {
 public:
  // Neighbouring steps are joined so that there are never more spans than this.
  static constexpr std::size_t kMostSpans = 1200;
  static constexpr std::size_t kMostOccurrences = 200;

  const RunRecord& record() const { return record_; }

  void on_start(const StartEvent& event) override;
  void on_plan(const PlanEvent& event) override;
  void on_step(const StepEvent& event) override;
  void on_evaluation(const EvalEvent& event) override;
  void on_out_of_memory(const OutOfMemoryEvent& event) override;
  void on_grow(const GrowEvent& event) override;
  void on_end(const EndEvent& event) override;

 private:
  void occurred(std::int64_t step, std::string text, bool out_of_memory = false);

  RunRecord record_;
  std::int64_t steps_a_span_ = 1;
  std::size_t budget_bytes_ = 0;
};

// Tells `observer` the events of a metrics.jsonl in their order, less what a resumed run did again.
// Of each there is what the file has; other members are as default. A line that was cut off, or is
// no event, is passed over. Throws DataError where the file cannot be read.
void read_metrics(const std::string& path, TrainObserver& observer);

}  // namespace gpt2train
