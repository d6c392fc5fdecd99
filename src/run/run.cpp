#include "gpt2train/run/run.h"

#include <algorithm>

#include "gpt2train/config/load.h"
#include "gpt2train/memory/trace.h"
#include "gpt2train/train/trainer.h"
#include "src/run/evaluation_text.h"
#include "src/run/machine.h"
#include "src/run/run_files.h"

namespace gpt2train {
namespace {

class End final : public TrainObserver {
 public:
  void on_end(const EndEvent& event) override { event_ = event; }
  const EndEvent& event() const { return event_; }

 private:
  EndEvent event_;
};

}  // namespace

RunConfig load_settings(const std::string& path, const std::vector<std::string>& settings) {
  std::vector<Override> overrides;
  for (const std::string& setting : settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos) throw ConfigError(setting, "expected name=value");
    const std::string name = setting.substr(0, equals);
    overrides.push_back({.flag = name, .key = name, .value = setting.substr(equals + 1)});
  }
  return load_config(path, overrides);
}

RunPlan plan_run(const RunConfig& config) {
  const PlanTarget target = plan_target(config);
  RunPlan answer{.device = target.device, .budget_bytes = target.budget_bytes};
  for (const Plan& plan : candidate_plans(config)) {
    answer.candidates.push_back(
        {.plan = plan, .prediction = predict(target.kernels, config, plan, target.budget_bytes)});
  }
  const auto chosen = std::find_if(
      answer.candidates.begin(), answer.candidates.end(), [&](const PredictedPlan& each) {
        const bool allowed =
            config.memory.plan == PlanMode::kAuto || each.plan == configured_plan(config);
        return allowed && each.prediction.fits();
      });
  if (chosen != answer.candidates.end()) {
    answer.chosen = static_cast<std::size_t>(chosen - answer.candidates.begin());
  }
  return answer;
}

EndEvent train(const RunConfig& config, TrainObserver& observer,
               const std::function<bool()>& stop) {
  if (config.memory.tune) {
    throw ConfigError("memory.tune", "plans are timed by the program gpt2train alone");
  }
  const RunSetup setup(config);
  const SampleText sample = evaluation_text(setup.config, stop);
  RunFiles files(setup.config);
  CachingAllocator memory(setup.backend->upstream(), setup.budget_bytes, config.memory.segments);
  std::optional<MemoryTrace> trace;
  if (!config.memory.trace.empty()) trace.emplace(memory, config.memory.trace);
  End end;
  ObserverList observers({&files.observer(), &observer, &end});
  TrainerSetup trainer_setup = setup.trainer_setup(memory, observers);
  trainer_setup.budget_now = setup.budget_now(memory);
  trainer_setup.interrupted = stop;
  trainer_setup.sample = sample;
  observers.on_start(start_of(setup));
  Trainer trainer(trainer_setup);
  trainer.run();
  trace.reset();  // with the model still in memory
  return end.event();
}

}  // namespace gpt2train
