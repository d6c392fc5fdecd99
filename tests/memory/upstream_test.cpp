#include "gpt2train/memory/upstream.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

std::uintptr_t number(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

std::size_t resident_bytes() {
  std::size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST(HostUpstream, GivesZeroedMemoryOnHugePageBoundaries) {
  HostUpstream upstream;
  for (const std::size_t bytes : {std::size_t{1}, 2 * kMiB, 2 * kMiB + 1, 20 * kMiB}) {
    auto* const block = static_cast<unsigned char*>(upstream.try_allocate(bytes));
    ASSERT_NE(block, nullptr);
    EXPECT_EQ(number(block) % (2 * kMiB), 0u);
    EXPECT_EQ(block[0], 0);
    EXPECT_EQ(block[bytes - 1], 0);
    std::memset(block, 0xAB, bytes);
    upstream.deallocate(block, bytes);
  }
}

TEST(HostUpstream, RefusesWhatNoMachineHas) {
  HostUpstream upstream;
  EXPECT_EQ(upstream.try_allocate(std::size_t{1} << 50), nullptr);
  EXPECT_EQ(upstream.try_allocate(std::size_t{1} << 62), nullptr);
  EXPECT_EQ(upstream.try_allocate(std::size_t{0} - 1), nullptr);
}

TEST(HostUpstream, AFreedSegmentGoesBackToTheSystemAtOnce) {
  HostUpstream upstream;
  constexpr std::size_t kBytes = 64 * kMiB;
  const std::size_t before = resident_bytes();
  void* const block = upstream.try_allocate(kBytes);
  ASSERT_NE(block, nullptr);
  std::memset(block, 1, kBytes);
  EXPECT_GE(resident_bytes(), before + kBytes);
  upstream.deallocate(block, kBytes);
  EXPECT_LT(resident_bytes(), before + kBytes / 4);
}

TEST(HostUpstream, LeavesNoAddressSpaceBehind) {
  HostUpstream upstream;
  const auto mapped_pages = [] {
    std::size_t total = 0;
    std::ifstream("/proc/self/statm") >> total;
    return total;
  };
  upstream.deallocate(upstream.try_allocate(2 * kMiB), 2 * kMiB);
  const std::size_t before = mapped_pages();
  for (int i = 0; i < 1000; ++i) {
    const std::size_t bytes = 2 * kMiB + static_cast<std::size_t>(i) * 999;
    upstream.deallocate(upstream.try_allocate(bytes), bytes);
  }
  EXPECT_LE(mapped_pages(), before + 2 * kMiB / 4096);
}

TEST(DryRunUpstream, HandsOutDisjointAlignedAddressesAndNoMemory) {
  DryRunUpstream upstream;
  const std::size_t before = resident_bytes();
  std::uintptr_t end = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::size_t bytes = 10 * kGiB + static_cast<std::size_t>(i);
    void* const block = upstream.try_allocate(bytes);
    ASSERT_NE(block, nullptr);
    ASSERT_EQ(number(block) % 512, 0u);
    ASSERT_GE(number(block), end);
    end = number(block) + bytes;
    if (i % 2 == 0) upstream.deallocate(block, bytes);
  }
  EXPECT_LT(resident_bytes(), before + kMiB);
}

TEST(DryRunUpstream, RefusesWhatWouldWrapTheAddressSpace) {
  DryRunUpstream upstream;
  EXPECT_EQ(upstream.try_allocate(std::size_t{0} - 1), nullptr);
  EXPECT_NE(upstream.try_allocate(std::size_t{1} << 50), nullptr);
}

TEST(Upstream, SaysWhetherItsAddressesAreMemory) {
  EXPECT_TRUE(HostUpstream().backed());
  EXPECT_FALSE(DryRunUpstream().backed());
}

}  // namespace
}  // namespace gpt2train
