#include "src/cli/compare.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "gpt2train/train/metrics.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

// Four steps of 100 tokens, with a loss that falls to `end`; evaluations at 0, 2 and 4.
NamedRun run_of(const std::string& name, double end, std::int64_t tokens_per_step = 100,
                const std::string& batch = "8") {
  RunHistory history;
  history.on_start(
      {.tokens_per_step = tokens_per_step,
       .last_step = 4,
       .settings = {{"out_dir", name}, {"seed", "7"}, {"training.batch_size", batch}}});
  for (const int step : {0, 1, 2, 3}) {
    if (step % 2 == 0) history.on_evaluation({.step = step, .val_loss = end + 1.0 / (1.0 + step)});
    history.on_step(
        {.step = step, .loss = end + 3.0 - step, .step_seconds = 0.5, .peak_bytes = 4096});
  }
  history.on_evaluation({.step = 4, .val_loss = end + 0.5});
  return {.name = name, .record = history.record()};
}

TEST(Compare, FiguresAreThoseOfTheRun) {
  const nlohmann::ordered_json run = compare_json({run_of("a", 2.0)})["runs"][0];
  EXPECT_EQ(run["steps"], 4);
  EXPECT_EQ(run["tokens"], 400);
  EXPECT_EQ(run["val_loss"], 2.5);
  EXPECT_DOUBLE_EQ(run["best_val_loss"], 2.0 + 1.0 / 3.0);
  EXPECT_EQ(run["best_step"], 2);
  EXPECT_EQ(run["train_loss"], 2.0);
  EXPECT_EQ(run["tokens_per_second"], 200.0);
  EXPECT_EQ(run["peak_bytes"], 4096);
  EXPECT_EQ(run["state"], "not ended");
}

TEST(Compare, OnlySettingsThatDifferAreNamed) {
  const SettingRows rows = differing_settings({run_of("a", 2.0), run_of("b", 3.0, 100, "16")});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].first, "training.batch_size");
  EXPECT_EQ(rows[0].second, (std::vector<std::string>{"8", "16"}));
}

TEST(Compare, ARunThatDoesNotSayItsSettingsDiffersInThem) {
  NamedRun old = run_of("a", 2.0);
  old.record.start.reset();
  EXPECT_EQ(differing_settings({old, run_of("b", 3.0)}).size(), 2u);
  const std::string text = compare_text({old, run_of("b", 3.0)});
  EXPECT_NE(text.find("tokens                         -        400\n"), std::string::npos) << text;
}

TEST(Compare, ColumnsAreAsWideAsWhatIsInThem) {
  const std::string text =
      compare_text({run_of("a/very/long/name", 2.0), run_of("b", 3.0, 100, "16")});
  std::size_t begin = 0, width = text.find('\n');
  for (std::size_t end = width; end != std::string::npos;
       begin = end + 1, end = text.find('\n', begin)) {
    const std::string line = text.substr(begin, end - begin);
    if (line == "settings that differ") continue;
    EXPECT_EQ(line.size(), width) << line;
  }
  EXPECT_NE(text.find("validation loss                  2.5000     3.5000"), std::string::npos)
      << text;
}

TEST(Compare, PlotsOverStepsOrOverTokensWhereStepsDiffer) {
  const CurvePlot steps = compare_plot({run_of("a", 2.0), run_of("b", 3.0)});
  EXPECT_EQ(steps.x_label, "step");
  EXPECT_EQ(steps.curves[1].seldom.back(), std::pair(4.0, 3.5));
  const CurvePlot tokens = compare_plot({run_of("a", 2.0), run_of("b", 3.0, 500000)});
  EXPECT_EQ(tokens.x_label, "tokens, in millions");
  EXPECT_EQ(tokens.curves[1].seldom.back(), std::pair(2.0, 3.5));
  const std::string svg = to_svg(tokens);
  EXPECT_NE(svg.find("<title>b: 3.5000</title>"), std::string::npos);
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
}

TEST(Compare, AFileWithoutARunIsAnError) {
  const test::TempDir directory;
  EXPECT_THROW(read_run(directory.path()), DataError);  // no metrics.jsonl
  test::write_file(directory / "metrics.jsonl", "{\"event\":\"plan\"}\n");
  EXPECT_THROW(read_run(directory.path()), DataError);
  test::write_file(directory / "metrics.jsonl", "{\"event\":\"step\",\"step\":3,\"loss\":1.5}\n");
  EXPECT_EQ(read_run(directory.path()).record.steps_done(), 4);
  EXPECT_EQ(read_run(directory / "metrics.jsonl").record.steps_done(), 4);
}

}  // namespace
}  // namespace gpt2train
