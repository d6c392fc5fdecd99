#include "gpt2train/train/history.h"

#include <gtest/gtest.h>

#include <limits>

#include "gpt2train/train/metrics.h"
#include "gpt2train/train/metrics_csv.h"
#include "gpt2train/train/run_page.h"
#include "gpt2train/train/trainer.h"
#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

StepEvent step_of(std::int64_t step, double loss) {
  return {.step = step, .loss = loss, .learning_rate = 0.5, .step_seconds = 0.25};
}

RunRecord read_back(const std::string& path) {
  RunHistory history;
  read_metrics(path, history);
  return history.record();
}

TEST(RunHistory, ShortRunsHaveEveryStep) {
  RunHistory history;
  for (std::int64_t step = 0; step < 7; ++step) {
    history.on_step(step_of(step, static_cast<double>(step)));
  }
  ASSERT_EQ(history.record().steps.size(), 7u);
  EXPECT_EQ(history.record().steps[3].first, 3);
  EXPECT_EQ(history.record().steps[3].last, 3);
  EXPECT_EQ(history.record().steps[3][Quantity::kLoss].mean(), 3.0);
  EXPECT_EQ(history.record().steps_done(), 7);
  EXPECT_DOUBLE_EQ(history.record().step_seconds, 7 * 0.25);
}

TEST(RunHistory, LongRunsAreJoinedAndLoseNothing) {
  RunHistory history;
  constexpr std::int64_t kSteps = 10007;
  double sum = 0.0;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const double loss = step == 4321 ? 99.0 : static_cast<double>(step % 10);
    sum += loss;
    history.on_step(step_of(step, loss));
    ASSERT_LE(history.record().steps.size(), RunHistory::kMostSpans);
  }
  const std::vector<StepSpan>& spans = history.record().steps;
  EXPECT_GT(spans.size(), RunHistory::kMostSpans / 2);
  std::int64_t next = 0, count = 0;
  double joined = 0.0, highest = 0.0;
  for (const StepSpan& span : spans) {
    EXPECT_EQ(span.first, next);
    EXPECT_EQ(span.last - span.first + 1, span.count);
    next = span.last + 1;
    count += span.count;
    joined += span[Quantity::kLoss].sum;
    highest = std::max(highest, span[Quantity::kLoss].high);
  }
  EXPECT_EQ(count, kSteps);
  EXPECT_DOUBLE_EQ(joined, sum);
  EXPECT_EQ(highest, 99.0);  // a spike stays one
}

TEST(RunHistory, WhatIsNotFiniteHasNoMean) {
  RunHistory history;
  history.on_step(step_of(0, std::numeric_limits<double>::quiet_NaN()));
  EXPECT_EQ(history.record().steps[0][Quantity::kLoss].count, 0);
  EXPECT_EQ(history.record().steps[0][Quantity::kLearningRate].mean(), 0.5);
}

TEST(RunHistory, MemoryIsKeptWhereItChanges) {
  RunHistory history;
  history.on_plan({.budget_bytes = 4096});
  StepEvent step = step_of(0, 1.0);
  step.peak_by_category[0] = 1024;
  for (step.step = 0; step.step < 5; ++step.step) history.on_step(step);
  step.peak_by_category[0] = 512;
  history.on_step(step);
  history.on_grow({.step = 6, .budget_bytes = 8192});
  step.step = 6;
  history.on_step(step);
  const std::vector<MemorySpan>& memory = history.record().memory;
  ASSERT_EQ(memory.size(), 3u);
  EXPECT_EQ(memory[0].budget_bytes, 4096u);
  EXPECT_EQ(memory[1].step, 5);
  EXPECT_EQ(memory[2].step, 6);
  EXPECT_EQ(memory[2].budget_bytes, 8192u);
}

// What a run told its observers and what its file tells are the same record.
TEST(ReadMetrics, GivesTheEventsOfARunBack) {
  RunConfig config = test::tiny_config();
  config.memory.plan = PlanMode::kOff;
  test::TinyRun run(config);
  run.memory.fail_request_after(150);  // in the first evaluation or step
  const std::string path = run.directory / "metrics.jsonl";
  RunHistory live;
  {
    MetricsFile metrics(path, MetricsFile::Mode::kFresh);
    ObserverList observers({&metrics, &live});
    observers.on_start(
        {.unix_seconds = 1, .version = "v", .settings = {{"seed", "7"}, {"a", "b"}}});
    Trainer(TrainerSetup{.backend = *run.backend,
                         .kernels = run.backend->kernels(),
                         .memory = run.memory,
                         .config = run.config,
                         .config_yaml = "",
                         .train_data = *run.train_data,
                         .train_eval_data = *run.eval_data,
                         .val_data = *run.eval_data,
                         .observer = observers})
        .run();
  }
  const RunRecord record = read_back(path), &wanted = live.record();
  ASSERT_TRUE(record.start);
  EXPECT_EQ(record.start->settings, wanted.start->settings);
  ASSERT_EQ(record.steps.size(), wanted.steps.size());
  for (std::size_t i = 0; i < wanted.steps.size(); ++i) {
    EXPECT_EQ(record.steps[i].first, wanted.steps[i].first);
    EXPECT_EQ(record.steps[i][Quantity::kLoss].sum, wanted.steps[i][Quantity::kLoss].sum);
    EXPECT_EQ(record.steps[i][Quantity::kGradNorm].sum, wanted.steps[i][Quantity::kGradNorm].sum);
  }
  ASSERT_EQ(record.evaluations.size(), 3u);
  EXPECT_EQ(record.evaluations.back().val_loss, wanted.evaluations.back().val_loss);
  ASSERT_EQ(record.memory.size(), wanted.memory.size());
  EXPECT_EQ(record.memory.back().peak_by_category, wanted.memory.back().peak_by_category);
  ASSERT_EQ(record.occurrences.size(), wanted.occurrences.size());
  bool ran_out = false;
  for (std::size_t i = 0; i < wanted.occurrences.size(); ++i) {
    EXPECT_EQ(record.occurrences[i].text, wanted.occurrences[i].text);
    ran_out |= record.occurrences[i].out_of_memory;
  }
  EXPECT_TRUE(ran_out);
  ASSERT_TRUE(record.end);
  EXPECT_EQ(record.end->stats.peak_allocated_bytes, wanted.end->stats.peak_allocated_bytes);
}

class WrittenMetrics : public testing::Test {
 protected:
  const test::TempDir directory_;
  const std::string path_ = directory_ / "metrics.jsonl";
};

TEST_F(WrittenMetrics, WhatAResumedRunDoesAgainReplacesWhatWas) {
  {
    MetricsFile killed(path_, MetricsFile::Mode::kFresh);
    killed.on_plan({.step = 0});
    killed.on_evaluation({.step = 0, .val_loss = 5.0});
    for (const int step : {0, 1, 2, 3, 4}) killed.on_step(step_of(step, 1.0));
    killed.on_evaluation({.step = 5, .val_loss = 4.0});
  }
  {
    MetricsFile resumed(path_, MetricsFile::Mode::kAppend);
    resumed.on_start({.resumed = true});
    resumed.on_plan({.step = 2});
    resumed.on_evaluation({.step = 2, .val_loss = 4.5});
    for (const int step : {2, 3, 4, 5}) resumed.on_step(step_of(step, 2.0));
  }
  const RunRecord record = read_back(path_);
  ASSERT_EQ(record.steps.size(), 6u);
  for (std::int64_t step = 0; step < 6; ++step) {
    const StepSpan& span = record.steps[static_cast<std::size_t>(step)];
    EXPECT_EQ(span.first, step);
    EXPECT_EQ(span[Quantity::kLoss].mean(), step < 2 ? 1.0 : 2.0);
  }
  ASSERT_EQ(record.evaluations.size(), 2u);
  EXPECT_EQ(record.evaluations[1].step, 2);
  EXPECT_EQ(record.best()->val_loss, 4.5);
}

TEST_F(WrittenMetrics, TornAndForeignLinesArePassedOver) {
  test::write_file(path_,
                   "{\"event\":\"step\",\"step\":0,\"loss\":1.5}\n"
                   "{\"event\":\"step\",\"st{\"event\":\"start\"}\n[1]\n{}\n\n{\"event\":7}\n"
                   "{\"event\":\"step\",\"step\":\"one\"}\n"
                   "{\"event\":\"step\",\"step\":1,\"loss\":null}\n{\"event\":\"st");
  const RunRecord record = read_back(path_);
  ASSERT_EQ(record.steps.size(), 2u);
  EXPECT_EQ(record.steps[1][Quantity::kLoss].count, 0);
}

TEST_F(WrittenMetrics, AFileThatIsNotThereIsAnError) {
  RunHistory history;
  EXPECT_THROW(read_metrics(path_, history), DataError);
}

TEST_F(WrittenMetrics, RowsHaveTheEvaluationBeforeTheirStep) {
  MetricsFile metrics(path_, MetricsFile::Mode::kFresh);
  MetricsCsv csv(directory_.path());
  ObserverList observers({&metrics, &csv});
  observers.on_plan({});
  observers.on_evaluation({.step = 0, .train_loss = 3.5, .val_loss = 3.25});
  observers.on_step(step_of(0, 2.5));
  observers.on_step(step_of(1, std::numeric_limits<double>::quiet_NaN()));
  observers.on_evaluation({.step = 2, .train_loss = 1.5, .val_loss = 1.25});
  observers.on_end({.step = 2});
  const std::string file = test::read_file(directory_ / "metrics.csv");
  EXPECT_EQ(file.substr(file.find('\n') + 1),
            "0,2.5,0.5,0,250,0,,0,0,0,0,3.5,3.25\n"
            "1,,0.5,0,250,0,,0,0,0,0,,\n"
            "2,,,,,,,,,,,1.5,1.25\n");
}

TEST_F(WrittenMetrics, ThePageIsWholeAndNeedsNothingFromElsewhere) {
  MetricsFile metrics(path_, MetricsFile::Mode::kFresh);
  const std::string page_path = directory_ / "run.html";
  {
    RunPage page(directory_.path());
    ObserverList observers({&metrics, &page});
    observers.on_start({.device = "</script><b>", .settings = {{"optimizer.grad_clip", "1.5"}}});
    observers.on_plan({});
    observers.on_step(step_of(0, std::numeric_limits<double>::infinity()));
    observers.on_evaluation({.step = 1, .train_loss = 3.5, .val_loss = 3.25});
    const std::string running = test::read_file(page_path);
    EXPECT_NE(running.find("\"state\":\"running\""), std::string::npos);
    EXPECT_NE(running.find("[1,3.5,3.25]"), std::string::npos);
    EXPECT_NE(running.find("[0,0,null,null,null,0.5,0.5,0.5"), std::string::npos);
    EXPECT_NE(running.find("\"grad_clip\":1.5"), std::string::npos);
    EXPECT_EQ(running.find("</script><b>"), std::string::npos);
    EXPECT_TRUE(running.ends_with("</html>\n"));
    for (const char* elsewhere : {"http:", "https:", "src=", "href=", "@import", "url("}) {
      EXPECT_EQ(running.find(elsewhere), std::string::npos) << elsewhere;
    }
  }
  EXPECT_NE(test::read_file(page_path).find("\"state\":\"ended by an error\""), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(page_path + ".new"));
}

TEST_F(WrittenMetrics, ThePageOfAResumedRunHasWhatWasBefore) {
  {
    MetricsFile before(path_, MetricsFile::Mode::kFresh);
    before.on_plan({.step = 0});
    for (const int step : {0, 1, 2}) before.on_step(step_of(step, 7.0));
  }
  MetricsFile metrics(path_, MetricsFile::Mode::kAppend);
  RunPage page(directory_.path());
  ObserverList observers({&metrics, &page});
  observers.on_start({.resumed = true});
  observers.on_plan({.step = 2});
  observers.on_step(step_of(2, 8.0));
  observers.on_end({.step = 3});
  const std::string done = test::read_file(directory_ / "run.html");
  EXPECT_NE(done.find("[1,1,7,7,7,"), std::string::npos);
  EXPECT_NE(done.find("[2,2,8,8,8,"), std::string::npos);
  EXPECT_EQ(done.find("[2,2,7,7,7,"), std::string::npos);
  EXPECT_NE(done.find("\"state\":\"done\""), std::string::npos);
}

}  // namespace
}  // namespace gpt2train
