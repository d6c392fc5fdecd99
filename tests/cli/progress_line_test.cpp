#include "src/cli/progress_line.h"

#include <gtest/gtest.h>

#include <vector>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

ProgressLine full() {
  return {.step = 1234,
          .last_step = 5000,
          .what = "step",
          .done = 3,
          .of = 40,
          .in_use_bytes = 8 * kGiB,
          .peak_bytes = 9 * kGiB + kGiB / 2,
          .budget_bytes = 11 * kGiB + kGiB / 4,
          .others_bytes = 2 * kGiB,
          .pace = ProgressLine::Pace{
              .loss = 2.12345, .tokens_per_second = 29800.4, .seconds_left = 7500.0}};
}

TEST(ProgressLine, HasEverythingWhereThereIsRoom) {
  EXPECT_EQ(progress_line(full(), 140),
            "[=====                   ]  1234/5000  step 3/40  loss 2.1235  29800 tok/s  "
            "mem 8.00/9.50/11.25 GiB  others 2.00 GiB  left 2h05m");
}

TEST(ProgressLine, FitsEightyColumnsWithMemoryAndTheTimeLeft) {
  EXPECT_EQ(progress_line(full(), 79),
            "1234/5000  loss 2.1235  mem 8.00/9.50/11.25 GiB  others 2.00 GiB  left 2h05m");
  ProgressLine alone = full();
  alone.others_bytes = 0;
  EXPECT_EQ(progress_line(alone, 79),
            "1234/5000  loss 2.1235  29800 tok/s  mem 8.00/9.50/11.25 GiB  left 2h05m");
}

TEST(ProgressLine, IsNeverWiderThanTheTerminal) {
  ProgressLine line = full();
  line.what = "evaluation of train";
  for (int columns = 0; columns < 160; ++columns) {
    const std::string text = progress_line(line, columns);
    ASSERT_LE(text.size(), static_cast<std::size_t>(columns));
    if (columns >= 40) {
      EXPECT_NE(text.find("mem 8.00/9.50/11.25 GiB"), std::string::npos) << text;
    }
  }
  EXPECT_EQ(progress_line(line, 6), "1234/5");
}

TEST(ProgressLine, HasNoPaceBeforeTheFirstStepIsDone) {
  ProgressLine line = full();
  line.step = 0;
  line.pace.reset();
  line.others_bytes.reset();
  EXPECT_EQ(progress_line(line, 60),
            "[              ]  0/5000  step 3/40  mem 8.00/9.50/11.25 GiB");
}

TEST(ProgressLine, CountsSmallBudgetsInMiB) {
  ProgressLine line = {.step = 10,
                       .last_step = 10,
                       .what = "evaluation of val",
                       .done = 1,
                       .of = 2,
                       .in_use_bytes = 40 * kMiB,
                       .peak_bytes = 48 * kMiB,
                       .budget_bytes = 64 * kMiB};
  EXPECT_EQ(progress_line(line, 79),
            "[========================]  10/10  evaluation of val 1/2  mem 40/48/64 MiB");
  line.step = 12;  // resumed beyond what is now the end
  line.last_step = 0;
  EXPECT_EQ(progress_line(line, 79),
            "[========================]  12/1  evaluation of val 1/2  mem 40/48/64 MiB");
}

TEST(BytesOfOthers, AreKnownWhereThisProcessIs) {
  const std::vector<ProcessMemory> processes = {{.pid = 7, .name = "Xorg", .bytes = 300},
                                                {.pid = 42, .name = "", .bytes = 5000},
                                                {.pid = 8, .name = "", .bytes = {}},
                                                {.pid = 9, .name = "", .bytes = 50}};
  EXPECT_EQ(bytes_of_others(processes, 42), 350u);
  EXPECT_EQ(bytes_of_others(processes, 43), std::nullopt);
  EXPECT_EQ(bytes_of_others({}, 42), std::nullopt);
}

}  // namespace
}  // namespace gpt2train
