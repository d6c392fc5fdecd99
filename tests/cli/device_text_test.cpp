#include "src/cli/device_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

DeviceState card() {
  return {.backend = "cuda",
          .info = {.name = "NVIDIA GeForce RTX 3060, sm_86",
                   .total_bytes = 12 * kGiB,
                   .available_bytes = 3 * kGiB,
                   .unseen_bytes = 0},
          .processes = {{.pid = 7, .name = "Xorg", .bytes = 300 * kMiB},
                        {.pid = 8, .name = "", .bytes = {}},
                        {.pid = 9, .name = "evil\033[2Jname", .bytes = 8 * kGiB},
                        {.pid = 42, .name = "gpt2train", .bytes = kGiB / 2}},
          .utilization_percent = 97};
}

TEST(WatchLines, HaveMemoryWorkAndProcessesLargestFirst) {
  const std::vector<std::string> expected = {
      "cuda    9.00 GiB of 12.00 GiB in use, 75 %; busy 97 %  NVIDIA GeForce RTX 3060, sm_86",
      "        8.00 GiB  evil [2Jname (process 9)",  // whoever names a process commands no terminal
      "      512.00 MiB  this program (process 42)",
      "      300.00 MiB  Xorg (process 7)",
      "               ?  a program (process 8)",
  };
  EXPECT_EQ(watch_lines(card(), 42), expected);
}

TEST(WatchLines, LeaveOutWhatNobodyTells) {
  DeviceState state = card();
  state.processes.clear();
  state.utilization_percent.reset();
  state.info.available_bytes = 13 * kGiB;  // a moment later than the total was read
  const std::vector<std::string> expected = {
      "cuda         0 B of 12.00 GiB in use, 0 %  NVIDIA GeForce RTX 3060, sm_86"};
  EXPECT_EQ(watch_lines(state, 42), expected);
}

TEST(DeviceJson, HasNullWhereNobodyTells) {
  EXPECT_EQ(to_json(card()).dump(),
            R"({"backend":"cuda","name":"NVIDIA GeForce RTX 3060, sm_86",)"
            R"("total_bytes":12884901888,"available_bytes":3221225472,"utilization_percent":97,)"
            R"("processes":[{"pid":7,"name":"Xorg","bytes":314572800},)"
            R"({"pid":8,"name":null,"bytes":null},)"
            R"({"pid":9,"name":"evil\u001b[2Jname","bytes":8589934592},)"
            R"({"pid":42,"name":"gpt2train","bytes":536870912}]})");
}

TEST(CatalogueTable, HasARowOfTheSameWidthForEachCard) {
  const std::vector<DeviceSpec> devices = {{.name = "rtx3060",
                                            .title = "A card",
                                            .memory_bytes = 12 * kGiB,
                                            .reserve_bytes = kGiB / 2,
                                            .bytes_per_second = 360e9,
                                            .float32_flops = 12.7e12,
                                            .tf32_flops = 13e12,
                                            .half_flops = 25.5e12,
                                            .multiprocessors = 28,
                                            .compute_capability = 86}};
  std::istringstream table(catalogue_table(devices));
  std::string units, heads, row;
  std::getline(table, units);
  std::getline(table, heads);
  std::getline(table, row);
  EXPECT_EQ(
      row,
      "rtx3060                     12.00      11.50        360     12.7    13.0    25.5   28  "
      "86");
  EXPECT_EQ(heads.size(), row.size());
  EXPECT_LT(row.size(), 100u);
}

}  // namespace
}  // namespace gpt2train
