// The rules one by one, then random traces: a dry run must decide as a real one does.
#include "gpt2train/memory/allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/memory/tensor.h"

namespace gpt2train {
namespace {

constexpr std::size_t kUnit = CachingAllocator::kAlignment;

// Dry, with a limit of its own and a record of what it was asked for.
class CountingUpstream final : public Upstream {
 public:
  explicit CountingUpstream(std::size_t limit_bytes = CachingAllocator::kNoBudget)
      : limit_bytes_(limit_bytes) {}
  void* try_allocate(std::size_t bytes) override {
    asked.push_back(bytes);
    if (held_bytes + bytes > limit_bytes_) return nullptr;
    held_bytes += bytes;
    return addresses_.try_allocate(bytes);
  }
  void deallocate(void* pointer, std::size_t bytes) noexcept override {
    held_bytes -= bytes;
    addresses_.deallocate(pointer, bytes);
  }

  std::vector<std::size_t> asked;
  std::size_t held_bytes = 0;

 private:
  std::size_t limit_bytes_;
  DryRunUpstream addresses_;
};

// The same requests in reverse order of address: nothing may depend on it.
class DescendingUpstream final : public Upstream {
 public:
  void* try_allocate(std::size_t bytes) override {
    next_ -= bytes;
    return reinterpret_cast<void*>(next_);
  }
  void deallocate(void*, std::size_t) noexcept override {}

 private:
  std::uintptr_t next_ = std::uintptr_t{1} << 46;
};

class AllocatorRules : public testing::Test {
 protected:
  char* take(std::size_t bytes, Tag tag = Tag::kWorkspace) {
    return static_cast<char*>(memory.allocate(bytes, {.tag = tag}));
  }
  void drop(void* pointer) { memory.deallocate(pointer); }
  const MemoryStats& stats() const { return memory.stats(); }

  CountingUpstream upstream;
  CachingAllocator memory{upstream, CachingAllocator::kNoBudget};
};

bool equal(const MemoryStats& a, const MemoryStats& b) {
  const auto all = [](const MemoryStats& s) {
    return std::tie(s.allocated_bytes, s.peak_allocated_bytes, s.reserved_bytes,
                    s.peak_reserved_bytes, s.by_tag, s.by_tag_at_peak, s.peak_phase, s.peak_scope,
                    s.peak_by_phase, s.cache_releases);
  };
  return all(a) == all(b);
}

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
  DescendingUpstream upstream;
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
  CountingUpstream upstream;
  CachingAllocator memory(upstream, 12 * kMiB);
  const OutOfMemoryError::Facts facts = facts_of_failure(memory, 12 * kMiB + 1);
  EXPECT_TRUE(upstream.asked.empty());
  EXPECT_EQ(facts.requested_bytes, 12 * kMiB + kUnit);
  EXPECT_EQ(facts.budget_bytes, 12 * kMiB);
  memory.deallocate(memory.allocate(12 * kMiB, {}));  // to the last byte
  EXPECT_EQ(memory.stats().peak_reserved_bytes, 12 * kMiB);
}

TEST(CachingAllocator, ReleasesTheCacheToStayWithinTheBudget) {
  CountingUpstream upstream;
  CachingAllocator memory(upstream, 26 * kMiB);
  void* held = memory.allocate(kUnit, {});
  memory.deallocate(memory.allocate(12 * kMiB, {}));
  memory.deallocate(memory.allocate(14 * kMiB, {}));
  EXPECT_EQ(memory.stats().cache_releases, 1u);
  EXPECT_EQ(memory.stats().reserved_bytes, 16 * kMiB);
  memory.deallocate(held);
}

TEST(CachingAllocator, ReleasesTheCacheWhenTheDeviceRefuses) {
  CountingUpstream upstream(16 * kMiB);
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  memory.deallocate(memory.allocate(12 * kMiB, {}));
  memory.deallocate(memory.allocate(14 * kMiB, {}));
  EXPECT_EQ(upstream.asked, (std::vector<std::size_t>{12 * kMiB, 14 * kMiB, 14 * kMiB}));
  EXPECT_EQ(memory.stats().cache_releases, 1u);
  EXPECT_EQ(facts_of_failure(memory, 17 * kMiB).cached_bytes, 0u);
}

TEST(CachingAllocator, TakesASegmentOfTheRequestAloneWhereASlabDoesNotFit) {
  CountingUpstream upstream;
  CachingAllocator memory(upstream, 10 * kMiB);
  void* held = memory.allocate(5 * kMiB, {});
  EXPECT_EQ(memory.stats().reserved_bytes, 6 * kMiB);
  EXPECT_EQ(upstream.asked, std::vector<std::size_t>{6 * kMiB});
  facts_of_failure(memory, 5 * kMiB);
  memory.deallocate(held);
}

TEST(CachingAllocator, ReleasesTheCacheForASlabBeforeItTakesASmallerSegment) {
  CountingUpstream upstream;
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
  EXPECT_TRUE(equal(memory.stats(), before));
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

TEST_F(AllocatorRules, ObserverSeesEveryAllocationAndFree) {
  struct Seen {
    bool is_free;
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
    seen.push_back({event.is_free, event.position, event.bytes, std::string(event.tensor),
                    std::string(event.scope), event.allocated_bytes});
  });
  {
    const AllocScope scope(memory, "block 1");
    const Buffer large(memory, 12 * kMiB, {.tensor = "large"});
    drop(before);
  }
  memory.set_observer({});
  drop(take(1));
  const std::vector<Seen> expected = {
      {false, 2 * kMiB, 12 * kMiB, "large", "block 1", 12 * kMiB + kUnit},
      {true, 0, kUnit, "before", "block 1", 12 * kMiB},
      {true, 2 * kMiB, 12 * kMiB, "large", "block 1", 0}};
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

// A size as a run would ask for: mostly small, some from the slabs, a few of their own.
std::size_t random_size(std::mt19937& random) {
  const auto below = [&](std::size_t limit) { return std::size_t{random()} % limit; };
  switch (below(8)) {
    case 0:
      return below(24) * kMiB + below(3);
    case 1:
    case 2:
      return kMiB + below(4 * kMiB);
    default:
      return below(std::size_t{1} << below(21));
  }
}

struct Live {
  char* begin;
  std::size_t bytes;  // rounded, and with what was not worth splitting off
};

// Runs `steps` random requests and frees; `check` sees the live blocks after each.
template <class Check>
void random_trace(CachingAllocator& memory, unsigned seed, int steps, const Check& check) {
  std::mt19937 random(seed);
  std::vector<Live> live;
  for (int step = 0; step < steps; ++step) {
    // Grows and shrinks in turns, so that merging and splitting both meet crowded segments.
    const bool growing = step / 200 % 2 == 0;
    if (live.empty() || random() % 10 < (growing ? 8u : 2u)) {
      const std::size_t bytes = random_size(random);
      const AllocScope scope(memory, concat("step ", step));
      const PhaseScope phase(memory, static_cast<Phase>(random() % kPhaseCount));
      const std::size_t before = memory.stats().allocated_bytes;
      try {
        void* block = memory.allocate(
            bytes, {.tag = static_cast<Tag>(random() % kTagCount), .tensor = "random"});
        live.push_back({static_cast<char*>(block), memory.stats().allocated_bytes - before});
        EXPECT_GE(live.back().bytes, bytes);
      } catch (const OutOfMemoryError&) {
        EXPECT_EQ(memory.stats().allocated_bytes, before);
      }
    } else {
      std::swap(live[random() % live.size()], live.back());
      memory.deallocate(live.back().begin);
      live.pop_back();
    }
    check(live);
  }
  for (const Live& block : live) memory.deallocate(block.begin);
}

// The rules once more, as plainly as they can be said: every block of every segment, searched
// whole.
class PlainModel {
 public:
  explicit PlainModel(std::size_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // The position of the block, or nothing where memory is out.
  std::optional<std::uint64_t> allocate(std::size_t bytes) {
    bytes = std::max(kUnit, (bytes + kUnit - 1) / kUnit * kUnit);
    const bool small = bytes <= kMiB;
    const std::size_t own = (bytes + 2 * kMiB - 1) / (2 * kMiB) * (2 * kMiB);
    const std::size_t slab = small ? 2 * kMiB : bytes <= 10 * kMiB ? 20 * kMiB : own;
    if (const auto block = take(bytes, small)) return block;
    if (add_segment(slab, small)) return take(bytes, small);
    release();
    if (add_segment(slab, small) || add_segment(own, small)) return take(bytes, small);
    return std::nullopt;
  }
  void deallocate(std::uint64_t position) {
    for (Segment& segment : segments_) {
      for (Block& block : segment.blocks) {
        if (block.position == position) block.free = true;
      }
      for (std::size_t i = 1; i < segment.blocks.size();) {
        Block& left = segment.blocks[i - 1];
        if (!left.free || !segment.blocks[i].free) {
          ++i;
          continue;
        }
        left.bytes += segment.blocks[i].bytes;
        segment.blocks.erase(segment.blocks.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
  }
  std::size_t reserved_bytes() const {
    std::size_t sum = 0;
    for (const Segment& segment : segments_) sum += segment.bytes;
    return sum;
  }

 private:
  struct Block {
    std::uint64_t position;
    std::size_t bytes;
    bool free;
  };
  struct Segment {
    bool small;
    std::size_t bytes;
    std::vector<Block> blocks;
  };

  std::optional<std::uint64_t> take(std::size_t bytes, bool small) {
    Segment* segment = nullptr;
    std::size_t best = 0;
    for (Segment& candidate : segments_) {  // oldest first, so the first of equals is kept
      for (std::size_t i = 0; i < candidate.blocks.size() && candidate.small == small; ++i) {
        const Block& block = candidate.blocks[i];
        if (!block.free || block.bytes < bytes) continue;
        if (segment != nullptr && segment->blocks[best].bytes <= block.bytes) continue;
        segment = &candidate;
        best = i;
      }
    }
    if (segment == nullptr) return std::nullopt;
    Block& block = segment->blocks[best];
    block.free = false;
    const std::uint64_t position = block.position;
    const std::size_t rest = block.bytes - bytes;
    if (small ? rest >= kUnit : rest > kMiB) {
      block.bytes = bytes;
      segment->blocks.insert(segment->blocks.begin() + static_cast<std::ptrdiff_t>(best) + 1,
                             {position + bytes, rest, true});
    }
    return position;
  }
  bool add_segment(std::size_t bytes, bool small) {
    if (reserved_bytes() + bytes > budget_bytes_) return false;
    segments_.push_back({small, bytes, {{next_position_, bytes, true}}});
    next_position_ += bytes;
    return true;
  }
  void release() {
    std::erase_if(segments_, [](const Segment& segment) {
      return segment.blocks.size() == 1 && segment.blocks[0].free;
    });
  }

  std::size_t budget_bytes_;
  std::uint64_t next_position_ = 0;
  std::vector<Segment> segments_;
};

class RandomTrace : public testing::TestWithParam<unsigned> {};

TEST_P(RandomTrace, KeepsItsInvariants) {
  constexpr std::size_t kBudget = 100 * kMiB;
  CountingUpstream upstream;
  CachingAllocator memory(upstream, kBudget);
  random_trace(memory, GetParam(), 4000, [&](const std::vector<Live>& live) {
    const MemoryStats& stats = memory.stats();
    std::map<char*, std::size_t> ordered;
    for (const Live& block : live) ordered.emplace(block.begin, block.bytes);
    ASSERT_EQ(ordered.size(), live.size());
    char* end = nullptr;
    std::size_t sum = 0;
    for (const auto& [begin, bytes] : ordered) {
      ASSERT_GE(begin, end) << "two live blocks overlap";
      end = begin + bytes;
      sum += bytes;
    }
    ASSERT_EQ(sum, stats.allocated_bytes);
    ASSERT_EQ(std::accumulate(stats.by_tag.begin(), stats.by_tag.end(), std::size_t{0}), sum);
    ASSERT_EQ(
        std::accumulate(stats.by_tag_at_peak.begin(), stats.by_tag_at_peak.end(), std::size_t{0}),
        stats.peak_allocated_bytes);
    ASSERT_EQ(*std::max_element(stats.peak_by_phase.begin(), stats.peak_by_phase.end()),
              stats.peak_allocated_bytes);
    ASSERT_EQ(memory.live_block_count(), live.size());
    ASSERT_LE(stats.allocated_bytes, stats.reserved_bytes);
    ASSERT_LE(stats.reserved_bytes, kBudget);
    ASSERT_EQ(stats.reserved_bytes, upstream.held_bytes);
  });
  EXPECT_GT(memory.stats().cache_releases, 0u) << "the budget was never tight";
  EXPECT_EQ(memory.stats().by_tag, TagBytes{});
  EXPECT_EQ(memory.live_block_count(), 0u);
  // Only where every free neighbour was merged is every segment one block again.
  memory.release_cached();
  EXPECT_EQ(memory.stats().reserved_bytes, 0u);
  EXPECT_EQ(upstream.held_bytes, 0u);
}

TEST_P(RandomTrace, DecidesAsThePlainModel) {
  constexpr std::size_t kBudget = 100 * kMiB;
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, kBudget);
  PlainModel model(kBudget);
  std::mt19937 random(GetParam());
  std::vector<std::pair<void*, std::uint64_t>> live;
  std::uint64_t position = 0;
  memory.set_observer([&](const MemoryEvent& event) { position = event.position; });
  int failures = 0;
  for (int step = 0; step < 4000; ++step) {
    if (live.empty() || random() % 10 < (step / 200 % 2 == 0 ? 8u : 2u)) {
      const std::size_t bytes = random_size(random);
      const std::optional<std::uint64_t> expected = model.allocate(bytes);
      try {
        void* block = memory.allocate(bytes, {});
        ASSERT_EQ(position, expected) << "step " << step << ", " << bytes << " bytes";
        live.emplace_back(block, position);
      } catch (const OutOfMemoryError&) {
        ASSERT_EQ(expected, std::nullopt) << "step " << step << ", " << bytes << " bytes";
        ++failures;
      }
    } else {
      std::swap(live[random() % live.size()], live.back());
      memory.deallocate(live.back().first);
      model.deallocate(live.back().second);
      live.pop_back();
    }
    ASSERT_EQ(memory.stats().reserved_bytes, model.reserved_bytes()) << "step " << step;
  }
  EXPECT_GT(failures, 0);
  for (const auto& block : live) memory.deallocate(block.first);
}

TEST_P(RandomTrace, IsTheSameOnEveryUpstream) {
  constexpr std::size_t kBudget = 100 * kMiB;
  const auto run = [](Upstream& upstream, std::vector<std::uint64_t>& positions) {
    CachingAllocator memory(upstream, kBudget);
    memory.set_observer([&](const MemoryEvent& event) { positions.push_back(event.position); });
    random_trace(memory, GetParam(), 4000, [](const std::vector<Live>&) {});
    return memory.stats();
  };
  DryRunUpstream dry;
  HostUpstream host;
  DescendingUpstream descending;
  std::vector<std::uint64_t> on_dry, on_host, on_descending;
  const MemoryStats expected = run(dry, on_dry);
  EXPECT_GT(expected.cache_releases, 0u);
  EXPECT_TRUE(equal(run(host, on_host), expected));
  EXPECT_TRUE(equal(run(descending, on_descending), expected));
  EXPECT_EQ(on_host, on_dry);
  EXPECT_EQ(on_descending, on_dry);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomTrace, testing::Range(1u, 6u));

TEST(CachingAllocator, LiveBlocksKeepTheirContentsOnTheHost) {
  HostUpstream upstream;
  CachingAllocator memory(upstream, 64 * kMiB);
  std::mt19937 random(9);
  std::vector<std::pair<Buffer, unsigned char>> live;
  for (int step = 0; step < 3000; ++step) {
    if (live.size() < 60 && random() % 2 == 0) {
      const auto fill = static_cast<unsigned char>(random());
      live.emplace_back(Buffer(memory, 1 + random() % 300000, {}), fill);
      std::memset(live.back().first.data(), fill, live.back().first.bytes());
    } else if (!live.empty()) {
      std::swap(live[random() % live.size()], live.back());
      const auto& [buffer, fill] = live.back();
      const auto* bytes = static_cast<const unsigned char*>(buffer.data());
      ASSERT_EQ(std::count(bytes, bytes + buffer.bytes(), fill),
                static_cast<std::ptrdiff_t>(buffer.bytes()));
      live.pop_back();
    }
  }
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
