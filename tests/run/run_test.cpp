#include "gpt2train/run/run.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "gpt2train/config/devices.h"
#include "gpt2train/config/load.h"
#include "gpt2train/core/error.h"
#include "gpt2train/train/history.h"
#include "tests/run/byte_run.h"

namespace gpt2train {
namespace {

using test::ByteRun;

template <class Problem, class Work>
std::string message_of(const Work& work) {
  try {
    work();
  } catch (const Problem& error) {
    return error.what();
  }
  return "nothing was thrown";
}

class Watch final : public TrainObserver {
 public:
  explicit Watch(std::int64_t last) : last_(last) {}
  void on_start(const StartEvent& event) override { start = event; }
  void on_plan(const PlanEvent& event) override { plan = event.plan; }
  void on_step(const StepEvent& event) override { done = event.step == last_; }
  StartEvent start = {};
  Plan plan = {};
  bool done = false;

 private:
  std::int64_t last_;
};

TEST(Run, SettingsAreNamesAndValues) {
  const RunConfig config = load_settings("", {"max_iters=3", "memory.limit=4MiB", "max_iters=7"});
  EXPECT_EQ(config.training.max_iters, 7);
  EXPECT_EQ(config.memory.limit.bytes, std::size_t{4} << 20);
  EXPECT_EQ(message_of<ConfigError>([] { load_settings("", {"max_iters"}); }),
            "max_iters: expected name=value");
  EXPECT_EQ(message_of<ConfigError>([] { load_settings("", {"max_itres=1"}); }),
            "max_itres: unknown setting; did you mean max_iters?");
}

TEST(Run, ThePlanIsWhatTheRunThenDoes) {
  const ByteRun run;
  const RunPlan answer = plan_run(run.config);
  ASSERT_TRUE(answer.chosen);
  const PredictedPlan& chosen = answer.candidates[*answer.chosen];
  Watch watch(-1);
  const EndEvent end = train(run.config, watch);
  EXPECT_EQ(watch.plan, chosen.plan);
  EXPECT_EQ(end.stats.peak_allocated_bytes, chosen.prediction.stats.peak_allocated_bytes);
  EXPECT_EQ(end.step, run.config.training.max_iters);
  EXPECT_FALSE(end.interrupted);
}

TEST(Run, APlanForACardNeedsNeitherTheCardNorTheData) {
  const RunPlan answer = plan_run(load_settings("", {"device=rtx3060", "data.train=nowhere.bin"}));
  EXPECT_EQ(answer.budget_bytes, find_device("rtx3060", "").usable_bytes());
  EXPECT_TRUE(answer.chosen);
  EXPECT_FALSE(plan_run(load_settings("", {"device=cuda", "memory.limit=1MiB"})).chosen);
}

TEST(Run, WithPlanOffNoOtherPlanIsChosen) {
  RunConfig config = load_settings("", {"device=rtx3060", "batch_size=64", "n_layer=8"});
  EXPECT_TRUE(plan_run(config).chosen);
  config.memory.plan = PlanMode::kOff;
  EXPECT_FALSE(plan_run(config).chosen);
}

TEST(Run, EndsAndIsSavedWhereStopSaysSo) {
  const ByteRun run;
  Watch watch(1);
  const EndEvent end = train(run.config, watch, [&] { return watch.done; });
  EXPECT_TRUE(end.interrupted);
  EXPECT_EQ(end.step, 2);
  EXPECT_TRUE(std::filesystem::exists(run.config.out_dir + "/step-00000002/manifest.json"));
  EXPECT_TRUE(std::filesystem::exists(run.config.out_dir + "/metrics.jsonl"));
  EXPECT_NE(
      message_of<CheckpointError>([&] { train(run.config, watch); }).find("holds checkpoints"),
      std::string::npos);
}

TEST(Run, LeavesWhatTheProgramLeaves) {
  ByteRun run;
  run.config.logging.tensorboard = true;
  Watch watch(-1);
  train(run.config, watch);
  EXPECT_EQ(watch.start.last_step, run.config.training.max_iters);
  EXPECT_EQ(watch.start.parameters, parameter_count(run.config.model));
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(run.config.out_dir)) {
    const std::string name = entry.path().filename();
    names.insert(name.substr(0, name.find(".tfevents")));
  }
  EXPECT_EQ(names, (std::set<std::string>{"README.txt", "config.yaml", "events.out", "metrics.csv",
                                          "metrics.jsonl", "run.html", "step-00000004"}));
  EXPECT_EQ(settings_of(load_settings(run.config.out_dir + "/config.yaml")), watch.start.settings);
  RunHistory history;
  read_metrics(run.config.out_dir + "/metrics.jsonl", history);
  EXPECT_EQ(history.record().start.value_or(StartEvent{}).settings, watch.start.settings);
}

TEST(Run, DoesNotTune) {
  ByteRun run;
  run.config.memory.tune = true;
  TrainObserver quiet;
  EXPECT_EQ(message_of<ConfigError>([&] { train(run.config, quiet); }),
            "memory.tune: plans are timed by the program gpt2train alone");
}

}  // namespace
}  // namespace gpt2train
