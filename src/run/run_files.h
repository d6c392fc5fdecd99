// What a run leaves in its directory beside checkpoints, and what is told of it when it begins.
#pragma once

#include <optional>

#include "gpt2train/train/metrics.h"
#include "gpt2train/train/metrics_csv.h"
#include "gpt2train/train/run_page.h"
#include "gpt2train/train/tensorboard.h"
#include "src/run/run_setup.h"

namespace gpt2train {

StartEvent start_of(const RunSetup& setup);

// metrics.jsonl, metrics.csv, run.html, TensorBoard's files where they are asked for, and what
// explain_run_directory leaves.
class RunFiles {
 public:
  // Makes out_dir first, as prepare_out_dir does. Throws CheckpointError.
  explicit RunFiles(const RunConfig& config);
  RunFiles(const RunFiles&) = delete;
  RunFiles& operator=(const RunFiles&) = delete;

  // Writes what it is told.
  TrainObserver& observer() { return all_; }

 private:
  MetricsFile metrics_;
  MetricsCsv csv_;  // this and the page read what metrics_ has written
  RunPage page_;
  std::optional<TensorBoardFile> tensorboard_;
  ObserverList all_;
};

}  // namespace gpt2train
