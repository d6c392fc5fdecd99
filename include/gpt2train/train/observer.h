// What a run tells the outside: typed events, for the terminal, metrics.jsonl and tests alike.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/memory/allocator.h"
#include "gpt2train/train/plan.h"

namespace gpt2train {

// What a reader of the others needs to know once. Told before the Trainer is made.
struct StartEvent {
  std::int64_t unix_seconds = 0;  // now, UTC
  std::string version = {};       // of gpt2train
  std::string backend = {};       // "cpu"
  std::string device = {};        // "AMD EPYC 7B13, 4 threads"
  std::int64_t parameters = 0;
  std::int64_t tokens_per_step = 0;
  std::int64_t last_step = 0;  // max_iters
  bool resumed = false;
  std::vector<std::pair<std::string, std::string>> settings = {};  // "model.n_layer" and "12", all
};

struct PlanEvent {
  std::int64_t step = 0;  // that comes next
  Plan plan = {};
  Prediction prediction = {};
  std::size_t budget_bytes = 0;
  bool lowered = false;  // not what the settings name, because that does not fit
  bool tuned = false;    // chosen by what was measured
};

struct StepEvent {
  std::int64_t step = 0;
  double loss = 0.0;  // mean over the step's tokens
  double learning_rate = 0.0;
  double grad_norm = 0.0;
  bool skipped = false;  // a gradient was not finite: no update
  double loss_scale = 1.0;
  double step_seconds = 0.0;
  double tokens_per_second = 0.0;
  double mfu = 0.0;  // share of the machine's measured matrix rate; 0 when that is not known
  Plan plan = {};
  std::size_t allocated_bytes = 0;
  std::size_t peak_bytes = 0;      // since the plan in force began
  TagBytes peak_by_category = {};  // at the instant of that peak; sums to it
};

struct EvalEvent {
  std::int64_t step = 0;
  double train_loss = 0.0;
  double val_loss = 0.0;
  double seconds = 0.0;
  std::string sample = {};  // what the model wrote, in well-formed UTF-8
};

struct OutOfMemoryEvent {
  std::int64_t step = 0;  // that is done again
  OutOfMemoryError::Facts facts = {};
  Plan from = {}, to = {};
  MemoryStats stats = {};  // of the plan that failed
  MemoryCounts counts = {};
};

struct GrowEvent {
  std::int64_t step = 0;
  Plan from = {}, to = {};
  std::size_t budget_bytes = 0;  // from now on
};

struct CheckpointEvent {
  std::int64_t step = 0;
  std::string path;
  double seconds = 0.0;
};

struct EndEvent {
  std::int64_t step = 0;
  Plan plan = {};
  Prediction prediction = {};  // of the plan in force
  MemoryStats stats = {};      // measured since that plan began
  MemoryCounts counts = {};    // since the start
  std::size_t largest_free_block_bytes = 0;
  std::size_t host_bytes = 0;      // of host memory, for what is kept off the device
  std::size_t resident_bytes = 0;  // peak of the whole process, whatever was lowered on the way
  double seconds = 0.0;
  bool interrupted = false;
};

class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_start(const StartEvent&) {}
  virtual void on_plan(const PlanEvent&) {}
  virtual void on_step(const StepEvent&) {}
  virtual void on_evaluation(const EvalEvent&) {}
  virtual void on_out_of_memory(const OutOfMemoryEvent&) {}
  virtual void on_grow(const GrowEvent&) {}
  virtual void on_checkpoint(const CheckpointEvent&) {}
  virtual void on_end(const EndEvent&) {}
  // Something the user should know that is no error.
  virtual void on_note(const std::string&) {}
  // Before each micro-batch of a step ("step") or of an evaluation ("evaluation of val").
  virtual void on_progress(const char* /*what*/, std::int64_t /*step*/, std::int64_t /*done*/,
                           std::int64_t /*of*/) {}
};

// Passes every event on to each observer, in order.
class ObserverList final : public TrainObserver {
 public:
  explicit ObserverList(std::vector<TrainObserver*> list) : list_(std::move(list)) {}
  void on_start(const StartEvent& e) override {
    for_each([&](auto& o) { o.on_start(e); });
  }
  void on_plan(const PlanEvent& e) override {
    for_each([&](auto& o) { o.on_plan(e); });
  }
  void on_step(const StepEvent& e) override {
    for_each([&](auto& o) { o.on_step(e); });
  }
  void on_evaluation(const EvalEvent& e) override {
    for_each([&](auto& o) { o.on_evaluation(e); });
  }
  void on_out_of_memory(const OutOfMemoryEvent& e) override {
    for_each([&](auto& o) { o.on_out_of_memory(e); });
  }
  void on_grow(const GrowEvent& e) override {
    for_each([&](auto& o) { o.on_grow(e); });
  }
  void on_checkpoint(const CheckpointEvent& e) override {
    for_each([&](auto& o) { o.on_checkpoint(e); });
  }
  void on_end(const EndEvent& e) override {
    for_each([&](auto& o) { o.on_end(e); });
  }
  void on_note(const std::string& text) override {
    for_each([&](auto& o) { o.on_note(text); });
  }
  void on_progress(const char* what, std::int64_t step, std::int64_t done,
                   std::int64_t of) override {
    for_each([&](auto& o) { o.on_progress(what, step, done, of); });
  }

 private:
  template <class Call>
  void for_each(const Call& call) {
    for (TrainObserver* observer : list_) call(*observer);
  }
  std::vector<TrainObserver*> list_;
};

}  // namespace gpt2train
