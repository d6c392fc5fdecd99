#include "src/cli/scenario_run.h"

#include <algorithm>
#include <cmath>

#include "gpt2train/core/units.h"
#include "gpt2train/train/attention.h"
#include "src/cli/synthetic_tokens.h"
#include "src/run/machine.h"
#include "src/run/run_setup.h"

namespace gpt2train {
namespace {

constexpr std::int64_t kReducedBy = 16;

// What follows the second micro-batch of a step, or of an evaluation, repeats it.
RunConfig shortened(RunConfig config) {
  config.training.gradient_accumulation_steps =
      std::min<std::int64_t>(config.training.gradient_accumulation_steps, 2);
  config.training.max_iters = 1;
  config.evaluation = {.eval_interval = 1, .eval_iters = 1};
  config.checkpoint = {.checkpoint_interval = 2, .always_save_checkpoint = false};
  return config;
}

RunConfig reduced(RunConfig config) {
  config.model.n_embd /= kReducedBy;
  config.model.vocab_size /= kReducedBy;
  config.model.block_size /= kReducedBy;
  config.memory.logits_rows /= kReducedBy;
  config.memory.segments = Segments::kExpandable;
  config.dtype = DType::kFloat32;
  return config;
}

const char* failing_tensor(const Prediction& prediction) {
  return prediction.failure ? prediction.failure->tensor.c_str() : "";
}

// Of the reduced scenario; empty where none near the same share makes the same happen.
std::optional<std::size_t> reduced_budget(const RunConfig& whole, const RunConfig& config,
                                          const std::string& expected_tensor) {
  constexpr std::size_t kStep = 256 * kKiB, kMostSteps = 64;
  const auto needed = [](const KernelTable& kernels, const RunConfig& each) {
    const Prediction prediction =
        predict(kernels, each, configured_plan(each), CachingAllocator::kNoBudget);
    return static_cast<double>(prediction.stats.peak_allocated_bytes);
  };
  const RunConfig full = with_full_logits(config);
  const double share = static_cast<double>(whole.memory.limit.bytes) /
                       needed(cuda_scratch_for(whole), with_full_logits(whole));
  const auto same_share = static_cast<std::size_t>(share * needed(cpu_kernels(), full));
  const auto does_the_same = [&](std::size_t budget) {
    const Prediction prediction = predict(cpu_kernels(), full, configured_plan(full), budget);
    return expected_tensor == failing_tensor(prediction) &&
           (prediction.failure || prediction.fits()) &&
           choose_plan(cpu_kernels(), full, candidate_plans(full), budget) &&
           choose_plan(cpu_kernels(), config, candidate_plans(config), budget);
  };
  for (std::size_t steps = 0; steps <= kMostSteps; ++steps) {
    const std::size_t away = steps * kStep;
    if (away < same_share && does_the_same(same_share - away)) return same_share - away;
    if (does_the_same(same_share + away)) return same_share + away;
  }
  return std::nullopt;
}

class Watch final : public TrainObserver {
 public:
  explicit Watch(ShortRun& run) : run_(run) {}
  void on_out_of_memory(const OutOfMemoryEvent& event) override {
    if (!run_.ran_out) run_.ran_out = event.facts;
  }
  void on_evaluation(const EvalEvent& event) override {
    run_.losses.push_back(event.train_loss);
    run_.losses.push_back(event.val_loss);
  }
  void on_step(const StepEvent& event) override { run_.losses.push_back(event.loss); }
  void on_end(const EndEvent& event) override {
    run_.plan = event.plan;
    run_.predicted = event.prediction.stats;
    run_.measured = event.stats;
  }

 private:
  ShortRun& run_;
};

ShortRun train(const RunConfig& config) {
  ShortRun run;
  try {
    const RunSetup setup(config);
    CachingAllocator memory(setup.backend->upstream(), setup.budget_bytes, config.memory.segments);
    Watch watch(run);
    Trainer(setup.trainer_setup(memory, watch)).run();
  } catch (const OutOfMemoryError& error) {
    run.error = error.what();
  }
  return run;
}

}  // namespace

bool ShortRun::as_predicted() const {
  return measured.peak_allocated_bytes == predicted.peak_allocated_bytes &&
         measured.peak_reserved_bytes == predicted.peak_reserved_bytes;
}

bool ShortRun::is_finite() const {
  return !losses.empty() &&
         std::all_of(losses.begin(), losses.end(), [](double loss) { return std::isfinite(loss); });
}

bool ScenarioRun::ran_out_as_expected() const {
  return (full_logits.ran_out ? full_logits.ran_out->tensor : "") == expected_tensor;
}

bool ScenarioRun::holds() const {
  for (const ShortRun* run : {&by_default, &full_logits}) {
    if (!run->ran() || !run->as_predicted() || !run->is_finite()) return false;
  }
  return ran_out_as_expected() && !by_default.ran_out;
}

ScenarioRun run_scenario(const Scenario& scenario, const Reproduction& found, DeviceChoice device) {
  const RunConfig whole = config_of(scenario);
  const std::unique_ptr<Backend> backend = open_backend(device);
  const bool on_gpu = backend->kernels().has_own_memory;
  ScenarioRun run{.reduced_by = on_gpu ? 1 : kReducedBy,
                  .device = backend->info().name,
                  .config = shortened(on_gpu ? whole : reduced(whole)),
                  .expected_tensor = failing_tensor(found.full)};
  run.config.device = on_gpu ? DeviceChoice::kCuda : DeviceChoice::kCpu;
  if (!on_gpu) {
    const std::optional<std::size_t> budget =
        reduced_budget(whole, run.config, run.expected_tensor);
    if (!budget) {
      run.by_default.error = run.full_logits.error =
          concat("no budget makes it run out at ", run.expected_tensor);
      return run;
    }
    run.config.memory.limit.bytes = *budget;
  }
  const SyntheticTokens tokens(run.config.model.block_size, run.config.model.vocab_size);
  run.config.data = {.train = tokens.path(), .val = tokens.path(), .format = TokenFormat::kNanoGpt};
  run.by_default = train(run.config);
  RunConfig full = with_full_logits(run.config);
  full.memory.plan = PlanMode::kOff;
  run.full_logits = train(full);
  return run;
}

}  // namespace gpt2train
