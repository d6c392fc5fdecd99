// A run on the screen: nanoGPT-like lines, and on a terminal a progress bar below them.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "gpt2train/memory/allocator.h"
#include "gpt2train/ops/backend.h"
#include "gpt2train/train/observer.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

class Progress final : public TrainObserver {
 public:
  // All three outlive it.
  Progress(const RunConfig& config, const CachingAllocator& memory, const Backend& backend);
  ~Progress() override;

  void on_plan(const PlanEvent& event) override;
  void on_step(const StepEvent& event) override;
  void on_evaluation(const EvalEvent& event) override;
  void on_out_of_memory(const OutOfMemoryEvent& event) override;
  void on_grow(const GrowEvent& event) override;
  void on_checkpoint(const CheckpointEvent& event) override;
  void on_end(const EndEvent& event) override;
  void on_note(const std::string& text) override;
  void on_progress(const char* what, std::int64_t step, std::int64_t done,
                   std::int64_t of) override;

 private:
  void line(const std::string& text);
  // Bytes that other processes have on the device, asked for once in a while.
  std::optional<std::size_t> others_bytes();
  void clear_bar();

  const RunConfig& config_;
  const CachingAllocator& memory_;
  const Backend& backend_;
  bool bar_shown_ = false;
  double loss_ = 0.0;
  double tokens_per_second_ = 0.0;  // smoothed
  double step_seconds_ = 0.0;       // smoothed
  std::chrono::steady_clock::time_point drawn_ = {}, others_asked_ = {};
  std::optional<std::size_t> others_bytes_ = {};
};

}  // namespace gpt2train
