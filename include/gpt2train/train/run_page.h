// run.html: a run as one page that draws itself, offline. Curves, memory against the budget, what
// happened, settings, machine.
#pragma once

#include <cstdint>
#include <string>

#include "gpt2train/train/history.h"

namespace gpt2train {

struct PageFacts {
  std::string name = {};          // of the run
  std::string state = {};         // "running"
  std::int64_t unix_seconds = 0;  // now, UTC
};

std::string run_page(const RunRecord& record, const PageFacts& facts);

// Writes out_dir/run.html when a run begins, at each evaluation and at its end, also where that is
// an error: beside, then renamed, so that a reader always finds a whole page. What a disk refuses
// is lost and does not stop the run.
class RunPage final : public TrainObserver {
 public:
  // What was before a resumed run is in out_dir/metrics.jsonl, which the observers before this one
  // have brought up to the newest plan.
  explicit RunPage(std::string out_dir);
  ~RunPage() override;

  void on_plan(const PlanEvent& event) override;
  void on_step(const StepEvent& event) override;
  void on_evaluation(const EvalEvent& event) override;
  void on_out_of_memory(const OutOfMemoryEvent& event) override;
  void on_grow(const GrowEvent& event) override;
  void on_end(const EndEvent& event) override;

 private:
  void write(const char* state) const;

  const std::string out_dir_;
  RunHistory history_;
  bool begun_ = false, ended_ = false;
};

}  // namespace gpt2train
