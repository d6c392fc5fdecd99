// The rules of the allocator, one by one.
#include "gpt2train/memory/allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/memory/tensor.h"
#include "tests/support/upstreams.h"

namespace gpt2train {
namespace {

constexpr std::size_t kUnit = CachingAllocator::kAlignment;

class AllocatorRules : public testing::Test {
 protected:
  char* take(std::size_t bytes, Tag tag = Tag::kWorkspace) {
    return static_cast<char*>(memory.allocate(bytes, {.tag = tag}));
  }
  void drop(void* pointer) { memory.deallocate(pointer); }
  const MemoryStats& stats() const { return memory.stats(); }

  test::CountingUpstream upstream;
  CachingAllocator memory{upstream, CachingAllocator::kNoBudget};
};

OutOfMemoryError::Facts facts_of_failure(CachingAllocator& memory, std::size_t bytes,
                                         const BlockLabel& label = {}) {
  try {
    static_cast<void>(memory.allocate(bytes, label));
  } catch (const OutOfMemoryError& error) {
    return error.facts();
  }
  ADD_FAILURE() << human_bytes(bytes) << " was granted";
  return {};
}

TEST_F(AllocatorRules, RoundsToTheAlignment) {
  for (const std::size_t bytes : {0, 1, 511, 512}) {
    void* block = take(bytes);
    EXPECT_EQ(stats().allocated_bytes, kUnit) << bytes;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % kUnit, 0u);
    drop(block);
  }
  drop(take(513));
  EXPECT_EQ(stats().peak_allocated_bytes, 2 * kUnit);
}

TEST_F(AllocatorRules, TakesSegmentsBySizeOfTheRequest) {
  for (const std::size_t bytes : {std::size_t{1}, kMiB, kMiB + 1, 10 * kMiB, 10 * kMiB + 1}) {
    CachingAllocator fresh(upstream, CachingAllocator::kNoBudget);
    fresh.deallocate(fresh.allocate(bytes, {}));
  }
  EXPECT_EQ(upstream.asked,
            (std::vector<std::size_t>{2 * kMiB, 2 * kMiB, 20 * kMiB, 20 * kMiB, 12 * kMiB}));
}

TEST_F(AllocatorRules, SmallAndLargeRequestsShareNoSegment) {
  void* large = take(2 * kMiB);  // leaves 18 MiB free
  void* small = take(kUnit);
  EXPECT_EQ(stats().reserved_bytes, 22 * kMiB);
  drop(small);
  drop(large);
}

TEST_F(AllocatorRules, SplitsASmallBlockDownToOneUnit) {
  char* first = take(kMiB);
  char* second = take(kMiB - kUnit);
  char* last = take(kUnit);
  EXPECT_EQ(second, first + kMiB);
  EXPECT_EQ(last, first + 2 * kMiB - kUnit);
  EXPECT_EQ(upstream.asked.size(), 1u);
  EXPECT_EQ(memory.largest_free_block_bytes(), 0u);
}

TEST_F(AllocatorRules, SplitsALargeBlockOnlyForARestOfMoreThanAMebibyte) {
  void* whole = take(11 * kMiB);  // in 12 MiB: the rest of 1 MiB stays with it
  EXPECT_EQ(stats().allocated_bytes, 12 * kMiB);
  EXPECT_EQ(memory.largest_free_block_bytes(), 0u);
  drop(whole);
  drop(take(11 * kMiB - kUnit));
  EXPECT_EQ(stats().peak_allocated_bytes, 12 * kMiB);  // still the peak: this one was split
  void* split = take(11 * kMiB - kUnit);
  EXPECT_EQ(stats().allocated_bytes, 11 * kMiB - kUnit);
  EXPECT_EQ(memory.largest_free_block_bytes(), kMiB + kUnit);
  drop(split);
}

TEST_F(AllocatorRules, BestFitIsTheSmallestBlockThatHolds) {
  char* a = take(8 * kUnit);
  void* wall_a = take(kUnit);
  char* b = take(4 * kUnit);
  void* wall_b = take(kUnit);
  drop(a);
  drop(b);
  EXPECT_EQ(take(3 * kUnit), b);
  EXPECT_EQ(take(5 * kUnit), a);
  drop(wall_a);
  drop(wall_b);
}

TEST_F(AllocatorRules, AmongEqualSizesTheLowerOffsetWins) {
  char* a = take(2 * kUnit);
  static_cast<void>(take(kUnit));
  char* b = take(2 * kUnit);
  static_cast<void>(take(kUnit));
  drop(b);
  drop(a);
  EXPECT_EQ(take(2 * kUnit), a);
  EXPECT_EQ(take(2 * kUnit), b);
}

TEST(CachingAllocator, AmongEqualSizesTheOlderSegmentWinsWhateverItsAddress) {
  test::DescendingUpstream upstream;
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  void* older = memory.allocate(12 * kMiB, {});
  void* newer = memory.allocate(12 * kMiB, {});
  ASSERT_GT(older, newer);
  memory.deallocate(newer);
  memory.deallocate(older);
  EXPECT_EQ(memory.allocate(12 * kMiB, {}), older);
}

TEST_F(AllocatorRules, MergesWithBothNeighboursOnFree) {
  char* a = take(kUnit);
  char* b = take(kUnit);
  char* c = take(kUnit);
  void* wall = take(kUnit);
  drop(a);
  drop(c);
  drop(b);
  EXPECT_EQ(take(3 * kUnit), a);
  drop(wall);
  drop(a);
  EXPECT_EQ(memory.largest_free_block_bytes(), 2 * kMiB);
  EXPECT_EQ(memory.live_block_count(), 0u);
}

TEST_F(AllocatorRules, NeverMergesAcrossSegments) {
  void* a = take(12 * kMiB);
  void* b = take(12 * kMiB);  // the dry addresses follow each other
  ASSERT_EQ(static_cast<char*>(a) + 12 * kMiB, b);
  drop(a);
  drop(b);
  EXPECT_EQ(memory.largest_free_block_bytes(), 12 * kMiB);
}

TEST_F(AllocatorRules, KeepsFreedSegmentsUntilTheyAreReleased) {
  void* held = take(kUnit);
  drop(take(12 * kMiB));
  EXPECT_EQ(stats().reserved_bytes, 14 * kMiB);
  EXPECT_EQ(memory.release_cached(), 12 * kMiB);
  EXPECT_EQ(stats().reserved_bytes, 2 * kMiB);
  EXPECT_EQ(upstream.held_bytes, 2 * kMiB);
  EXPECT_EQ(memory.release_cached(), 0u);
  EXPECT_EQ(stats().cache_releases, 0u) << "nobody needed the room";
  drop(held);
}

TEST_F(AllocatorRules, GenerationChangesExactlyWithTheSegments) {
  EXPECT_EQ(memory.segment_generation(), 0u);
  void* a = take(kUnit);
  const std::uint64_t taken = memory.segment_generation();
  EXPECT_NE(taken, 0u);
  void* b = take(kUnit);
  drop(a);
  drop(b);
  EXPECT_EQ(memory.segment_generation(), taken);
  memory.release_cached();
  const std::uint64_t released = memory.segment_generation();
  EXPECT_NE(released, taken);
  memory.release_cached();
  EXPECT_EQ(memory.segment_generation(), released);
}

TEST(CachingAllocator, AsksTheUpstreamOnlyWithinTheBudget) {
  test::CountingUpstream upstream;
  CachingAllocator memory(upstream, 12 * kMiB);
  const OutOfMemoryError::Facts facts = facts_of_failure(memory, 12 * kMiB + 1);
  EXPECT_TRUE(upstream.asked.empty());
  EXPECT_EQ(facts.requested_bytes, 12 * kMiB + kUnit);
  EXPECT_EQ(facts.budget_bytes, 12 * kMiB);
  memory.deallocate(memory.allocate(12 * kMiB, {}));  // to the last byte
  EXPECT_EQ(memory.stats().peak_reserved_bytes, 12 * kMiB);
}

TEST(CachingAllocator, ReleasesTheCacheToStayWithinTheBudget) {
  test::CountingUpstream upstream;
  CachingAllocator memory(upstream, 26 * kMiB);
  void* held = memory.allocate(kUnit, {});
  memory.deallocate(memory.allocate(12 * kMiB, {}));
  memory.deallocate(memory.allocate(14 * kMiB, {}));
  EXPECT_EQ(memory.stats().cache_releases, 1u);
  EXPECT_EQ(memory.stats().reserved_bytes, 16 * kMiB);
  memory.deallocate(held);
}

TEST(CachingAllocator, ReleasesTheCacheWhenTheDeviceRefuses) {
  test::CountingUpstream upstream(16 * kMiB);
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  memory.deallocate(memory.allocate(12 * kMiB, {}));
  memory.deallocate(memory.allocate(14 * kMiB, {}));
  EXPECT_EQ(upstream.asked, (std::vector<std::size_t>{12 * kMiB, 14 * kMiB, 14 * kMiB}));
  EXPECT_EQ(memory.stats().cache_releases, 1u);
  EXPECT_EQ(facts_of_failure(memory, 17 * kMiB).cached_bytes, 0u);
}

TEST(CachingAllocator, TakesASegmentOfTheRequestAloneWhereASlabDoesNotFit) {
  test::CountingUpstream upstream;
  CachingAllocator memory(upstream, 10 * kMiB);
  void* held = memory.allocate(5 * kMiB, {});
  EXPECT_EQ(memory.stats().reserved_bytes, 6 * kMiB);
  EXPECT_EQ(upstream.asked, std::vector<std::size_t>{6 * kMiB});
  facts_of_failure(memory, 5 * kMiB);
  memory.deallocate(held);
}

TEST(CachingAllocator, ReleasesTheCacheForASlabBeforeItTakesASmallerSegment) {
  test::CountingUpstream upstream;
  CachingAllocator memory(upstream, 21 * kMiB);
  memory.deallocate(memory.allocate(kUnit, {}));
  memory.deallocate(memory.allocate(5 * kMiB, {}));
  EXPECT_EQ(upstream.asked, (std::vector<std::size_t>{2 * kMiB, 20 * kMiB}));
  EXPECT_EQ(memory.stats().reserved_bytes, 20 * kMiB);
}

TEST(CachingAllocator, AnAbsurdRequestIsRefusedAndNotWrapped) {
  HostUpstream upstream;
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  for (const std::size_t bytes :
       {std::size_t{0} - 1, std::size_t{0} - kUnit, std::size_t{1} << 63}) {
    EXPECT_GE(facts_of_failure(memory, bytes).requested_bytes, std::size_t{1} << 63);
  }
  EXPECT_EQ(memory.stats().reserved_bytes, 0u);
}

TEST(CachingAllocator, ErrorNamesScopeTensorAndNumbers) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, 40 * kMiB);
  const AllocScope step(memory, "step 12");
  const AllocScope block(memory, "block 3");
  const Buffer held(memory, 3 * kMiB, {.tag = Tag::kWeights, .tensor = "wte"});
  try {
    const Tensor logits(memory, Tag::kLogits, "logits", DType::kBFloat16, {9, 1024, 1024});
    const Tensor qkv(memory, Tag::kActivations, "qkv", DType::kBFloat16, {1024, 9000});
    FAIL() << "the budget was not enforced";
  } catch (const OutOfMemoryError& error) {
    const OutOfMemoryError::Facts& facts = error.facts();
    EXPECT_EQ(facts.requested_bytes, 2u * 1024 * 9000);
    EXPECT_EQ(facts.in_use_bytes, 21 * kMiB);
    EXPECT_EQ(facts.cached_bytes, 17 * kMiB);
    EXPECT_EQ(facts.largest_free_block_bytes, 17 * kMiB);
    EXPECT_EQ(facts.budget_bytes, 40 * kMiB);
    EXPECT_EQ(facts.tensor, "qkv");
    EXPECT_EQ(facts.shape, "(1024, 9000)");
    EXPECT_EQ(facts.dtype, "bf16");
    EXPECT_EQ(facts.scope, "step 12/block 3");
  }
}

TEST(CachingAllocator, ErrorTextReadsAsOneSentence) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, 16 * kMiB);
  const AllocScope step(memory, "step 12");
  const Buffer held(memory, 11 * kMiB - kUnit, {.tag = Tag::kWeights, .tensor = "wte"});
  try {
    const Buffer scratch(memory, 6 * kMiB, {.tensor = "partial sums"});
    FAIL() << "the budget was not enforced";
  } catch (const OutOfMemoryError& error) {
    EXPECT_STREQ(error.what(),
                 "out of memory: partial sums needs 6.00 MiB in step 12; in use 11.00 MiB, cached "
                 "1.00 MiB, largest free block 1.00 MiB, budget 16.00 MiB");
  }
}

TEST(CachingAllocator, AFailedRequestLeavesNoTrace) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, 8 * kMiB);
  std::vector<Buffer> held;
  for (int i = 0; i < 3; ++i) held.emplace_back(memory, 700 * kKiB, BlockLabel{.tensor = "held"});
  const MemoryStats before = memory.stats();
  const std::uint64_t generation = memory.segment_generation();
  const std::size_t largest = memory.largest_free_block_bytes();
  facts_of_failure(memory, 9 * kMiB, {.tag = Tag::kLogits, .tensor = "logits"});
  EXPECT_TRUE(memory.stats() == before);
  EXPECT_EQ(memory.segment_generation(), generation);
  EXPECT_EQ(memory.largest_free_block_bytes(), largest);
  EXPECT_EQ(memory.live_block_count(), 3u);
}

TEST(CachingAllocator, RefusesNewSegmentsWhenTheBudgetFallsBelowWhatIsReserved) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, 24 * kMiB);
  const Buffer a(memory, 12 * kMiB, {});
  memory.set_budget(4 * kMiB);
  facts_of_failure(memory, 1);
  memory.set_budget(14 * kMiB);
  const Buffer b(memory, 1, {});
  EXPECT_EQ(memory.stats().reserved_bytes, 14 * kMiB);
}

TEST_F(AllocatorRules, LedgerKeepsBytesByTag) {
  void* weights = take(3 * kUnit, Tag::kWeights);
  void* logits = take(5 * kUnit, Tag::kLogits);
  void* more = take(kUnit, Tag::kWeights);
  EXPECT_EQ(stats().by_tag[static_cast<std::size_t>(Tag::kWeights)], 4 * kUnit);
  EXPECT_EQ(stats().by_tag[static_cast<std::size_t>(Tag::kLogits)], 5 * kUnit);
  EXPECT_EQ(stats().allocated_bytes, 9 * kUnit);
  drop(logits);
  drop(weights);
  drop(more);
  EXPECT_EQ(stats().by_tag, TagBytes{});
  EXPECT_EQ(stats().allocated_bytes, 0u);
}

// The peaks of the categories, each at its own time, would sum to more than the total's.
TEST_F(AllocatorRules, CategoriesAtThePeakAreOfTheInstantOfThePeak) {
  const AllocScope outer(memory, "step 1");
  void* logits = take(9 * kUnit, Tag::kLogits);
  drop(logits);
  void* weights = take(4 * kUnit, Tag::kWeights);
  {
    const AllocScope inner(memory, "block 2");
    drop(take(6 * kUnit, Tag::kActivations));
  }
  drop(take(6 * kUnit, Tag::kGradients));  // as high again, and so not a new peak
  drop(weights);
  TagBytes expected = {};
  expected[static_cast<std::size_t>(Tag::kWeights)] = 4 * kUnit;
  expected[static_cast<std::size_t>(Tag::kActivations)] = 6 * kUnit;
  EXPECT_EQ(stats().by_tag_at_peak, expected);
  EXPECT_EQ(stats().peak_allocated_bytes, 10 * kUnit);
  EXPECT_EQ(stats().peak_scope, "step 1/block 2");
}

TEST_F(AllocatorRules, ListsTheLargestTensorsOfThePeak) {
  void* weights = memory.allocate(4 * kUnit, {.tag = Tag::kWeights, .tensor = "wte"});
  void* first = memory.allocate(3 * kUnit, {.tag = Tag::kActivations, .tensor = "qkv"});
  void* second = memory.allocate(3 * kUnit, {.tag = Tag::kActivations, .tensor = "qkv"});
  EXPECT_TRUE(stats().largest_at_peak.empty()) << "nothing was freed yet";
  drop(first);
  const std::vector<TensorBytes> expected = {{"qkv", Tag::kActivations, 2, 6 * kUnit},
                                             {"wte", Tag::kWeights, 1, 4 * kUnit}};
  EXPECT_EQ(stats().largest_at_peak, expected);
  drop(second);
  drop(memory.allocate(6 * kUnit, {.tensor = "as high again"}));
  EXPECT_EQ(stats().largest_at_peak, expected);
  memory.reset_peaks();
  drop(weights);
  EXPECT_EQ(stats().largest_at_peak,
            (std::vector<TensorBytes>{{"wte", Tag::kWeights, 1, 4 * kUnit}}));
}

TEST_F(AllocatorRules, CountsWhatHappened) {
  void* held = take(kUnit);
  drop(take(12 * kMiB));
  facts_of_failure(memory, std::size_t{1} << 63);  // gives the cache back
  const MemoryCounts& counts = memory.counts();
  EXPECT_EQ(counts.allocations, 2u);
  EXPECT_EQ(counts.frees, 1u);
  EXPECT_EQ(counts.allocated_bytes, kUnit + 12 * kMiB);
  EXPECT_EQ(counts.segments_taken, 2u);
  EXPECT_EQ(counts.segments_returned, 1u);
  drop(held);
}

TEST_F(AllocatorRules, PeaksAreKeptForEachPhase) {
  void* weights = take(4 * kUnit);
  {
    const PhaseScope training(memory, Phase::kTraining);
    drop(take(3 * kUnit));
    {
      const PhaseScope evaluation(memory, Phase::kEvaluation);
      drop(take(8 * kUnit));
    }
    drop(take(5 * kUnit));
    const PhaseScope checkpoint(memory, Phase::kCheckpoint);  // asks for nothing
  }
  void* more = take(kUnit);
  EXPECT_EQ(stats().peak_by_phase,
            (std::array<std::size_t, kPhaseCount>{5 * kUnit, 9 * kUnit, 12 * kUnit, 4 * kUnit, 0}));
  EXPECT_EQ(stats().peak_phase, Phase::kEvaluation);
  drop(weights);
  drop(more);
}

TEST_F(AllocatorRules, ResetPeaksStartsFromWhatIsInUse) {
  void* held = take(kUnit, Tag::kWeights);
  drop(take(12 * kMiB));
  memory.release_cached();
  memory.reset_peaks();
  EXPECT_EQ(stats().peak_allocated_bytes, kUnit);
  EXPECT_EQ(stats().peak_reserved_bytes, 2 * kMiB);
  EXPECT_EQ(stats().by_tag_at_peak, stats().by_tag);
  EXPECT_EQ(stats().peak_by_phase[0], kUnit);
  EXPECT_EQ(stats().peak_scope, "(no scope)");
  drop(held);
}

TEST_F(AllocatorRules, ScopePathNamesTheScopesFromOutside) {
  EXPECT_EQ(memory.scope_path(), "(no scope)");
  const AllocScope step(memory, "step 12");
  {
    const AllocScope micro(memory, "micro 3");
    EXPECT_EQ(memory.scope_path(), "step 12/micro 3");
  }
  EXPECT_EQ(memory.scope_path(), "step 12");
}

TEST_F(AllocatorRules, TheRequestChosenFailsOnceAsOnAFullDevice) {
  void* held = take(kUnit);
  drop(take(12 * kMiB));
  memory.fail_request_after(1);
  void* next = take(kUnit);
  const OutOfMemoryError::Facts facts = facts_of_failure(memory, kUnit, {.tensor = "third"});
  EXPECT_EQ(facts.tensor, "third");
  EXPECT_EQ(facts.in_use_bytes, 2 * kUnit);
  EXPECT_EQ(facts.cached_bytes, 2 * kMiB - 2 * kUnit) << "the cache is released before giving up";
  EXPECT_EQ(stats().cache_releases, 1u);
  EXPECT_EQ(stats().allocated_bytes, 2 * kUnit);
  EXPECT_EQ(memory.request_count(), 4u);
  drop(take(kUnit));
  drop(next);
  drop(held);
}

TEST_F(AllocatorRules, ObserverSeesEveryAction) {
  struct Seen {
    MemoryAction action;
    Phase phase;
    std::uint64_t position;
    std::size_t bytes;
    std::string tensor, scope;
    std::size_t allocated_bytes;
    bool operator==(const Seen&) const = default;
  };
  std::vector<Seen> seen;
  void* before = memory.allocate(kUnit, {.tensor = "before"});
  memory.set_observer([&](const MemoryEvent& event) {
    EXPECT_EQ(event.tag, Tag::kWorkspace);
    EXPECT_EQ(event.reserved_bytes, stats().reserved_bytes);
    seen.push_back({event.action, event.phase, event.position, event.bytes,
                    std::string(event.tensor), std::string(event.scope), event.allocated_bytes});
  });
  {
    const AllocScope scope(memory, "block 1");
    const PhaseScope phase(memory, Phase::kTraining);
    {
      const Buffer large(memory, 12 * kMiB, {.tensor = "large"});
      drop(before);
    }
    memory.release_cached();
    memory.set_budget(kUnit);
    facts_of_failure(memory, kUnit, {.tensor = "more"});
  }
  memory.set_observer({});
  memory.set_budget(CachingAllocator::kNoBudget);
  drop(take(1));
  const std::vector<Seen> expected = {
      {MemoryAction::kTakeSegment, Phase::kTraining, 2 * kMiB, 12 * kMiB, "", "block 1", kUnit},
      {MemoryAction::kAllocate, Phase::kTraining, 2 * kMiB, 12 * kMiB, "large", "block 1",
       12 * kMiB + kUnit},
      {MemoryAction::kFree, Phase::kTraining, 0, kUnit, "before", "block 1", 12 * kMiB},
      {MemoryAction::kFree, Phase::kTraining, 2 * kMiB, 12 * kMiB, "large", "block 1", 0},
      {MemoryAction::kReturnSegment, Phase::kTraining, 0, 2 * kMiB, "", "block 1", 0},
      {MemoryAction::kReturnSegment, Phase::kTraining, 2 * kMiB, 12 * kMiB, "", "block 1", 0},
      {MemoryAction::kOutOfMemory, Phase::kTraining, 0, kUnit, "more", "block 1", 0}};
  EXPECT_EQ(seen, expected);
}

TEST_F(AllocatorRules, GivesEverythingBackAtTheEnd) {
  {
    CachingAllocator inner(upstream, CachingAllocator::kNoBudget);
    inner.deallocate(inner.allocate(1, {}));
    inner.deallocate(inner.allocate(15 * kMiB, {}));
    EXPECT_EQ(upstream.held_bytes, 18 * kMiB);
  }
  EXPECT_EQ(upstream.held_bytes, 0u);
}

using CachingAllocatorDeathTest = AllocatorRules;

TEST_F(CachingAllocatorDeathTest, FreeingWhatIsNotLiveEndsTheProgram) {
  void* block = take(1);
  drop(block);
  EXPECT_DEATH(memory.deallocate(block), "freed a pointer that is not of a live block");
}

}  // namespace
}  // namespace gpt2train
