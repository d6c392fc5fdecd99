// Owners of blocks: moves, and under AddressSanitizer accesses outside of what is owned.
#include "gpt2train/memory/tensor.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "gpt2train/core/units.h"
#include "gpt2train/memory/upstream.h"

namespace gpt2train {
namespace {

constexpr std::size_t kUnit = CachingAllocator::kAlignment;

TEST(Buffer, MovesItsBlockAndFreesItOnce) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  Buffer a(memory, 100, {}), b(memory, 2000, {});
  void* const address = b.data();
  a = std::move(b);
  EXPECT_EQ(a.data(), address);
  EXPECT_EQ(a.bytes(), 2000u);
  EXPECT_EQ(memory.stats().allocated_bytes, 4 * kUnit);
  Buffer& same = a;
  a = std::move(same);
  EXPECT_EQ(a.data(), address);
  a.reset();
  a.reset();
  EXPECT_EQ(memory.live_block_count(), 0u);
}

TEST(Tensor, HasTheBytesOfItsShapeAndNoViewOnceMoved) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  Tensor a(memory, Tag::kActivations, "qkv", DType::kBFloat16, {3, 100});
  EXPECT_EQ(memory.stats().by_tag[static_cast<std::size_t>(Tag::kActivations)], 2 * kUnit);
  const Tensor b = std::move(a);
  EXPECT_FALSE(a.present());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(b.view().shape, (Shape{3, 100}));
}

#if defined(__SANITIZE_ADDRESS__)
class SanitizedAllocatorDeathTest : public testing::Test {
 protected:
  HostUpstream upstream;
  CachingAllocator memory{upstream, CachingAllocator::kNoBudget};
};

TEST_F(SanitizedAllocatorDeathTest, AccessAfterFreeIsCaught) {
  auto* volatile bytes = static_cast<char*>(memory.allocate(1000, {}));
  bytes[999] = 1;
  memory.deallocate(bytes);
  EXPECT_DEATH(bytes[0] = 1, "use-after-poison");
}

TEST_F(SanitizedAllocatorDeathTest, AccessPastTheEndIsCaughtToTheByte) {
  const Buffer buffer(memory, 1001, {}), neighbour(memory, 1000, {});
  auto* volatile bytes = static_cast<char*>(buffer.data());
  bytes[1000] = 1;
  EXPECT_DEATH(bytes[1001] = 1, "use-after-poison");
}

TEST_F(SanitizedAllocatorDeathTest, ReusedAndReleasedMemoryIsAccessibleAgain) {
  memory.deallocate(memory.allocate(3 * kMiB, {}));
  const Buffer reused(memory, 3 * kMiB, {});
  std::memset(reused.data(), 1, reused.bytes());
  void* large = memory.allocate(12 * kMiB, {});
  memory.deallocate(large);
  memory.release_cached();
  void* again = upstream.try_allocate(12 * kMiB);
  std::memset(again, 1, 12 * kMiB);
  upstream.deallocate(again, 12 * kMiB);
}
#endif

}  // namespace
}  // namespace gpt2train
