// metrics.jsonl: one JSON object a line for every event of a run, flushed as it happens. The field
// names are a contract: docs/json.md.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "gpt2train/train/observer.h"

namespace gpt2train {

class MetricsFile final : public TrainObserver {
 public:
  enum class Mode : std::uint8_t { kFresh, kAppend };
  // Throws CheckpointError when the file cannot be opened. A line that cannot be written later, on
  // a full disk, is lost and does not stop the run.
  MetricsFile(const std::string& path, Mode mode);

  void on_start(const StartEvent& event) override;
  void on_plan(const PlanEvent& event) override;
  void on_step(const StepEvent& event) override;
  void on_evaluation(const EvalEvent& event) override;
  void on_out_of_memory(const OutOfMemoryEvent& event) override;
  void on_grow(const GrowEvent& event) override;
  void on_checkpoint(const CheckpointEvent& event) override;
  void on_end(const EndEvent& event) override;

 private:
  void write(const std::string& line);

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  TagBytes peak_by_category_ = {};  // as told last
};

}  // namespace gpt2train
