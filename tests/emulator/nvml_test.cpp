#include "src/cuda/nvml.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace gpt2train::test {
namespace {

TEST(ProcessesOnGpu, AreListedOnceWithWhatIsTold) {
  ASSERT_NE(dlopen(NVML_STAND_IN, RTLD_NOW), nullptr) << dlerror();  // then found by its name
  const std::vector<ProcessMemory> found = processes_on_gpu("0000:01:00.0");
  ASSERT_EQ(found.size(), 41u);
  EXPECT_EQ(found[0].pid, 100);
  EXPECT_EQ(found[0].bytes, std::size_t{1} << 20);
  EXPECT_EQ(found[0].name, "");
  EXPECT_FALSE(found[1].bytes.has_value());
  EXPECT_EQ(found[40].pid, 7);
  EXPECT_EQ(found[40].name, "Xorg");
  EXPECT_EQ(found[40].bytes, std::size_t{300} << 20);
  EXPECT_TRUE(processes_on_gpu("0000:02:00.0").empty());
}

TEST(GpuUtilization, IsThatOfTheMultiprocessors) {
  ASSERT_NE(dlopen(NVML_STAND_IN, RTLD_NOW), nullptr) << dlerror();
  EXPECT_EQ(gpu_utilization_percent("0000:01:00.0"), 97);
  EXPECT_EQ(gpu_utilization_percent("0000:02:00.0"), std::nullopt);
}

}  // namespace
}  // namespace gpt2train::test
