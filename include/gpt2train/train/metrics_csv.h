// metrics.csv: one row a step, for spreadsheets and data frames. Where an evaluation came before
// the step its losses stand in the same row; the one after the last step has a row of its own.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "gpt2train/train/observer.h"

namespace gpt2train {

// Writes rows as events come. What is not finite or not known is an empty cell.
class CsvRows final : public TrainObserver {
 public:
  // Begins a new file. Throws CheckpointError when it cannot be opened. A row that cannot be
  // written later, on a full disk, is lost and does not stop the run.
  explicit CsvRows(const std::string& path);

  void on_step(const StepEvent& event) override;
  void on_evaluation(const EvalEvent& event) override;
  void on_end(const EndEvent& event) override;

 private:
  void put(const std::string& row);
  void put_evaluation();  // that no step followed

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  std::optional<EvalEvent> evaluation_;  // not yet written
};

// out_dir/metrics.csv of a run. Of a resumed one it is written anew from out_dir/metrics.jsonl,
// which the observers before this one have brought up to the newest plan: each step is in it once.
class MetricsCsv final : public TrainObserver {
 public:
  explicit MetricsCsv(std::string out_dir) : out_dir_(std::move(out_dir)) {}

  void on_plan(const PlanEvent& event) override;
  void on_step(const StepEvent& event) override;
  void on_evaluation(const EvalEvent& event) override;
  void on_end(const EndEvent& event) override;

 private:
  const std::string out_dir_;
  std::optional<CsvRows> rows_;  // since the plan
};

}  // namespace gpt2train
