// A training run: plan, set up, evaluate, step, checkpoint. The only place in the program that
// catches OutOfMemoryError, to go on with a smaller micro-batch and the same mathematics.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/data/loader.h"
#include "gpt2train/memory/allocator.h"
#include "gpt2train/ops/backend.h"
#include "gpt2train/ops/exec.h"
#include "gpt2train/ops/pinned_upstream.h"
#include "gpt2train/train/checkpoint.h"
#include "gpt2train/train/evaluation_sample.h"
#include "gpt2train/train/observer.h"
#include "gpt2train/train/plan.h"
#include "gpt2train/train/run_config.h"
#include "gpt2train/train/state.h"
#include "gpt2train/train/step.h"

namespace gpt2train {

// What a run stands on; all of it outlives the trainer.
struct TrainerSetup {
  Backend& backend;
  const KernelTable& kernels;  // the backend's, with the attention that was asked for
  CachingAllocator& memory;    // with the run's budget, empty
  const RunConfig& config;
  std::string config_yaml;  // resolved, for checkpoints
  const Loader& train_data;
  const Loader& train_eval_data;  // samples of the train split for evaluation
  const Loader& val_data;
  TrainObserver& observer;
  // Every plan of the run, fastest first, where that was measured: the first that fits is taken,
  // whatever batch_size is. Empty: candidate_plans(), and only where batch_size does not fit.
  std::vector<Plan> plans = {};
  // What the budget would be if the run began now, its own memory included; empty: it stays.
  std::function<std::size_t()> budget_now = {};
  std::function<bool()> interrupted = {};  // a signal arrived: save and stop
  SampleText sample = {};                  // where evaluation.sample_tokens asks for one
  double peak_flops_per_second = 0.0;      // measured matrix rate, for MFU; 0: not known
};

class Trainer {
 public:
  // Chooses the plan, allocates the model and fills it from `init_from`. Throws OutOfMemoryError
  // with advice when no plan fits, CheckpointError and DataError for what it loads.
  explicit Trainer(const TrainerSetup& setup);

  // Until max_iters, or an interruption; ends with a checkpoint. Throws OutOfMemoryError with
  // advice when the smallest plan does not fit.
  void run();

  // The pieces of run(), for tests: one step (empty when interrupted), the losses of both splits.
  std::optional<StepResult> step();
  std::optional<EvalEvent> evaluate();
  void save();
  // Between steps: back to a faster plan where memory has become free since it was lowered. Dry
  // runs alone decide; what a device refuses all the same lowers it again, and doubles the wait.
  void grow();

  void set_profiler(Profiler* profiler) { exec_.set_profiler(profiler); }

  const Plan& plan() const { return plan_; }
  const ModelState& state() const { return *state_; }
  const TrainState& position() const { return position_; }

 private:
  void choose_initial_plan();
  std::optional<PredictedPlan> first_that_fits() const;
  void load();
  void resume();
  void try_save();
  void adopt_smaller_plan(const OutOfMemoryError& error);
  void adopt(const Plan& plan, Prediction prediction);
  void tell_memory(const OutOfMemoryError& error) const;
  float loss_scale() const { return position_.loss_scale ? position_.loss_scale->factor : 1.0f; }
  bool interrupted() const { return setup_.interrupted && setup_.interrupted(); }
  StopCheck progress(const char* what) const;

  // Calls work(), and again with a smaller plan each time it runs out of memory.
  template <class Work>
  auto with_recovery(const Work& work) -> decltype(work());

  const TrainerSetup setup_;
  const RunConfig& config_;
  const std::vector<Plan> plans_;  // fastest first
  CachingAllocator& memory_;
  PinnedUpstream pinned_;
  CachingAllocator host_memory_;
  Exec exec_;
  Plan plan_;
  Prediction prediction_;
  TrainState position_;
  std::unique_ptr<ModelState> state_;
  StepSource source_;
  std::optional<FoundCheckpoint> resumed_;
  bool split_resumed_ = false;  // micro_batch and accumulation are the checkpoint's
  std::int64_t grow_wait_ = 0;  // steps between attempts to grow; 0: nothing was lowered yet
  std::int64_t grow_at_ = 0;    // iteration of the next one
  std::int64_t saved_iteration_ = -1;
  std::string save_problem_;  // of the newest attempt, empty when it worked
};

}  // namespace gpt2train
