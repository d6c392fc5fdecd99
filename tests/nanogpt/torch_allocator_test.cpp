// PyTorch's rules, each on an example worked by hand, and what must hold whatever is asked.
#include "gpt2train/nanogpt/torch_allocator.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

constexpr TorchSegments kClassic = TorchSegments::kClassic;
constexpr TorchSegments kExpandable = TorchSegments::kExpandable;

TEST(TorchAllocator, RoundsRequestsTo512Bytes) {
  TorchAllocator memory(kGiB, kClassic);
  memory.allocate(1);
  EXPECT_EQ(memory.stats().allocated_bytes, 512u);
  memory.allocate(512);
  EXPECT_EQ(memory.stats().allocated_bytes, 1024u);
  memory.allocate(513);
  EXPECT_EQ(memory.stats().allocated_bytes, 2048u);
  EXPECT_EQ(memory.stats().requested_bytes, 1026u);
}

TEST(TorchAllocator, TakesSlabsForSmallAndMediumRequestsAndRoundsLargeOnes) {
  EXPECT_EQ(TorchAllocator::segment_bytes_for(1), 2 * kMiB);
  EXPECT_EQ(TorchAllocator::segment_bytes_for(kMiB), 2 * kMiB);
  EXPECT_EQ(TorchAllocator::segment_bytes_for(kMiB + 1), 20 * kMiB);
  EXPECT_EQ(TorchAllocator::segment_bytes_for(10 * kMiB - 512), 20 * kMiB);
  EXPECT_EQ(TorchAllocator::segment_bytes_for(10 * kMiB), 10 * kMiB);
  EXPECT_EQ(TorchAllocator::segment_bytes_for(10 * kMiB + 1), 12 * kMiB);
  TorchAllocator memory(kGiB, kClassic);
  memory.allocate(kMiB);
  memory.allocate(kMiB);
  EXPECT_EQ(memory.stats().reserved_bytes, 2 * kMiB);
  memory.allocate(512);
  EXPECT_EQ(memory.stats().reserved_bytes, 4 * kMiB);
  memory.allocate(2 * kMiB);  // of the other pool
  EXPECT_EQ(memory.stats().reserved_bytes, 24 * kMiB);
}

TEST(TorchAllocator, SplitsLargeBlocksOnlyForARestAboveOneMebibyte) {
  for (const bool splits : {false, true}) {
    TorchAllocator memory(kGiB, kClassic);
    memory.free(memory.allocate(20 * kMiB).value());
    const std::size_t bytes = 19 * kMiB - (splits ? 512 : 0);
    memory.allocate(bytes);
    EXPECT_EQ(memory.stats().reserved_bytes, 20 * kMiB);
    EXPECT_EQ(memory.stats().allocated_bytes, splits ? bytes : 20 * kMiB);
  }
}

TEST(TorchAllocator, SplitsSmallBlocksFor512Bytes) {
  TorchAllocator memory(kGiB, kClassic);
  for (int i = 0; i < 3; ++i) memory.allocate(512 * kKiB);
  memory.allocate(512 * kKiB - 512);
  EXPECT_EQ(memory.allocate(512), 2 * kMiB - 512);
  EXPECT_EQ(memory.stats().reserved_bytes, 2 * kMiB);
}

TEST(TorchAllocator, TakesTheSmallestBlockThatFitsAndTheLowestOfEqualOnes) {
  TorchAllocator memory(kGiB, kClassic);
  std::vector<TorchAllocator::Address> blocks;
  for (const std::size_t mib : {40, 24, 20, 24}) {
    blocks.push_back(memory.allocate(mib * kMiB).value());
  }
  for (const auto block : {blocks[3], blocks[1], blocks[0], blocks[2]}) memory.free(block);
  EXPECT_EQ(memory.allocate(22 * kMiB), blocks[1]);
  EXPECT_EQ(memory.allocate(22 * kMiB), blocks[3]);
  EXPECT_EQ(memory.allocate(22 * kMiB), blocks[0]);
}

TEST(TorchAllocator, MergesFreeNeighbours) {
  for (const TorchSegments segments : {kClassic, kExpandable}) {
    TorchAllocator memory(kGiB, segments);
    std::vector<TorchAllocator::Address> blocks;
    for (int i = 0; i < 4; ++i) blocks.push_back(memory.allocate(5 * kMiB).value());
    ASSERT_EQ(memory.stats().reserved_bytes, 20 * kMiB);
    for (const int i : {0, 2, 1}) memory.free(blocks[i]);
    EXPECT_EQ(memory.allocate(15 * kMiB), blocks[0]);
    EXPECT_EQ(memory.stats().reserved_bytes, 20 * kMiB);
  }
}

TEST(TorchAllocator, GivesItsCacheBackAndTriesOnceMore) {
  TorchAllocator memory(100 * kMiB, kClassic);
  memory.free(memory.allocate(60 * kMiB).value());
  EXPECT_TRUE(memory.allocate(80 * kMiB));
  EXPECT_EQ(memory.stats().reserved_bytes, 80 * kMiB);
  EXPECT_EQ(memory.stats().peak_reserved_bytes, 80 * kMiB);
  EXPECT_EQ(memory.stats().retries, 1u);
}

// 2 MiB of a segment of 60 live: the other 58 serve no request of 80, though 98 MiB are free.
TEST(TorchAllocator, CannotGiveBackASegmentWithALiveBlock) {
  TorchAllocator memory(100 * kMiB, kClassic);
  memory.free(memory.allocate(60 * kMiB).value());
  memory.allocate(12 * kMiB);
  EXPECT_FALSE(memory.allocate(80 * kMiB));
  EXPECT_EQ(memory.stats().reserved_bytes, 60 * kMiB);
  EXPECT_EQ(memory.stats().allocated_bytes, 12 * kMiB);
  EXPECT_EQ(memory.largest_free_block_bytes(), 48 * kMiB);
}

TEST(TorchAllocator, ExpandableSegmentsGrowByPages) {
  TorchAllocator memory(100 * kMiB, kExpandable);
  const auto first = memory.allocate(30 * kMiB);
  EXPECT_EQ(memory.stats().reserved_bytes, 40 * kMiB);
  memory.free(first.value());
  EXPECT_EQ(memory.allocate(80 * kMiB), first);
  EXPECT_EQ(memory.stats().reserved_bytes, 80 * kMiB);
  EXPECT_EQ(memory.stats().retries, 0u);
  memory.allocate(512);
  EXPECT_EQ(memory.stats().reserved_bytes, 82 * kMiB);
}

TEST(TorchAllocator, ExpandableSegmentsSplitFor512Bytes) {
  TorchAllocator memory(kGiB, kExpandable);
  memory.free(memory.allocate(20 * kMiB).value());
  memory.allocate(20 * kMiB - 512);
  EXPECT_EQ(memory.stats().allocated_bytes, 20 * kMiB - 512);
}

// Three pages, of which the middle one becomes free. 30 MiB need two pages in a row: the device has
// them once the middle one is given back, but only behind the third.
TEST(TorchAllocator, ExpandableSegmentsGiveBackPagesInTheirMiddle) {
  TorchAllocator memory(80 * kMiB, kExpandable);
  std::vector<TorchAllocator::Address> pages;
  for (int i = 0; i < 3; ++i) pages.push_back(memory.allocate(20 * kMiB).value());
  memory.free(pages[1]);
  EXPECT_EQ(memory.allocate(30 * kMiB), pages[2] + 20 * kMiB);
  EXPECT_EQ(memory.stats().retries, 1u);
  EXPECT_EQ(memory.stats().reserved_bytes, 80 * kMiB);
  EXPECT_FALSE(memory.allocate(20 * kMiB));
  memory.free(pages[0]);
  EXPECT_EQ(memory.allocate(20 * kMiB), pages[0]);
}

// The block at the end could grow, so that one in the middle is the better fit for less.
TEST(TorchAllocator, ExpandableSegmentsKeepTheirEndForLast) {
  TorchAllocator memory(kGiB, kExpandable);
  const auto middle = memory.allocate(15 * kMiB);
  memory.allocate(35 * kMiB);  // up to 50 MiB: 10 MiB of the third page stay free
  memory.free(middle.value());
  EXPECT_EQ(memory.allocate(5 * kMiB), middle);
}

TEST(TorchAllocator, RefusesToFreeWhatIsNotLive) {
  TorchAllocator memory(kGiB, kClassic);
  const auto block = memory.allocate(kMiB).value();
  memory.free(block);
  EXPECT_THROW(memory.free(block), InternalError);
  EXPECT_THROW(memory.free(block + 512), InternalError);
}

// Blocks of a segment lie end to end, and the ledger is their sum.
void expect_sound(const TorchAllocator& memory, std::size_t device_bytes) {
  std::size_t live = 0, requested = 0, mapped = 0;
  const TorchAllocator::Block* previous = nullptr;
  TorchAllocator::Address end = 0;
  for (const auto& [address, block] : memory.blocks()) {
    using State = TorchAllocator::State;
    ASSERT_GE(address, end);
    if (previous != nullptr && previous->segment == block.segment) {
      ASSERT_EQ(address, end);
      ASSERT_FALSE(previous->state == block.state && block.state != State::kLive) << "not merged";
    } else {
      ASSERT_EQ(address, block.segment);
    }
    ASSERT_EQ(block.bytes % 512, 0u);
    if (block.state == State::kLive) {
      ASSERT_LE(block.requested_bytes, block.bytes);
      live += block.bytes;
      requested += block.requested_bytes;
    }
    if (block.state != State::kUnmapped) mapped += block.bytes;
    previous = &block;
    end = address + block.bytes;
  }
  ASSERT_EQ(memory.stats().allocated_bytes, live);
  ASSERT_EQ(memory.stats().requested_bytes, requested);
  ASSERT_EQ(memory.stats().reserved_bytes, mapped);
  ASSERT_LE(mapped, device_bytes);
}

TEST(TorchAllocator, KeepsItsInvariantsInRandomTraces) {
  constexpr std::size_t kDevice = 300 * kMiB;
  for (const TorchSegments segments : {kClassic, kExpandable}) {
    std::size_t retries = 0, refused = 0;
    for (unsigned seed = 0; seed < 10; ++seed) {
      std::mt19937 random(seed);
      TorchAllocator memory(kDevice, segments);
      std::vector<TorchAllocator::Address> live;
      for (int step = 0; step < 400; ++step) {
        if (live.empty() || random() % 100 < 55) {
          const std::size_t most = random() % 3 == 0 ? 60 * kMiB : 3 * kMiB;
          const auto block = memory.allocate(1 + random() % most);
          if (block) live.push_back(*block);
          refused += !block;
        } else {
          std::swap(live[random() % live.size()], live.back());
          memory.free(live.back());
          live.pop_back();
        }
        ASSERT_NO_FATAL_FAILURE(expect_sound(memory, kDevice)) << "seed " << seed;
      }
      retries += memory.stats().retries;
      for (const auto block : live) memory.free(block);
      EXPECT_EQ(memory.stats().allocated_bytes, 0u);
      EXPECT_EQ(memory.stats().requested_bytes, 0u);
      memory.empty_cache();
      EXPECT_EQ(memory.stats().reserved_bytes, 0u);
    }
    EXPECT_GT(retries, refused) << "no trace met a full device that a retry helped";
    EXPECT_GT(refused, 0u);
  }
}

}  // namespace
}  // namespace gpt2train
