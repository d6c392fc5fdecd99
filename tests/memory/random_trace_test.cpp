// Random requests and frees: invariants, a plain model of the rules, and a dry run that must decide
// as a real one does.
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
#include "gpt2train/memory/allocator.h"
#include "gpt2train/memory/tensor.h"
#include "tests/support/upstreams.h"

namespace gpt2train {
namespace {

constexpr std::size_t kUnit = CachingAllocator::kAlignment;

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
  PlainModel(std::size_t budget_bytes, Segments segments)
      : budget_bytes_(budget_bytes), expandable_(segments == Segments::kExpandable) {}

  // The position of the block, or nothing where memory is out.
  std::optional<std::uint64_t> allocate(std::size_t bytes) {
    bytes = std::max(kUnit, (bytes + kUnit - 1) / kUnit * kUnit);
    const bool small = bytes <= kMiB;
    const std::size_t own = (bytes + 2 * kMiB - 1) / (2 * kMiB) * (2 * kMiB);
    const std::size_t slab = small ? 2 * kMiB : bytes <= 10 * kMiB ? 20 * kMiB : own;
    if (const auto block = take(bytes, small)) return block;
    if (expandable_) {
      if (grow(bytes, small)) return take(bytes, small);
      trim();
      return grow(bytes, small) ? take(bytes, small) : std::nullopt;
    }
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
    std::uint64_t position = 0;  // of an expandable one
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
  // A segment of this kind, made if there is none, gets a free end that holds the request.
  bool grow(std::size_t bytes, bool small) {
    auto segment = std::find_if(segments_.begin(), segments_.end(),
                                [&](const Segment& s) { return s.small == small; });
    if (segment == segments_.end()) {
      segments_.push_back({small, 0, {}, next_position_});
      next_position_ += budget_bytes_;
      segment = std::prev(segments_.end());
    }
    std::vector<Block>& blocks = segment->blocks;
    const bool end_is_free = !blocks.empty() && blocks.back().free;
    const std::size_t have = end_is_free ? blocks.back().bytes : 0;
    const std::size_t more = (bytes - have + 2 * kMiB - 1) / (2 * kMiB) * (2 * kMiB);
    if (reserved_bytes() + more > budget_bytes_) return false;
    if (end_is_free) {
      blocks.back().bytes += more;
    } else {
      blocks.push_back({segment->position + segment->bytes, more, true});
    }
    segment->bytes += more;
    return true;
  }
  void trim() {
    for (Segment& segment : segments_) {
      if (segment.blocks.empty() || !segment.blocks.back().free) continue;
      Block& end = segment.blocks.back();
      const std::size_t begin = end.position - segment.position;
      const std::size_t kept = (begin + 2 * kMiB - 1) / (2 * kMiB) * (2 * kMiB);
      if (kept >= segment.bytes) continue;
      segment.bytes = kept;
      end.bytes = kept - begin;
      if (end.bytes == 0) segment.blocks.pop_back();
    }
  }
  void release() {
    std::erase_if(segments_, [](const Segment& segment) {
      return segment.blocks.size() == 1 && segment.blocks[0].free;
    });
  }

  std::size_t budget_bytes_;
  bool expandable_;
  std::uint64_t next_position_ = 0;
  std::vector<Segment> segments_;
};

class RandomTrace : public testing::TestWithParam<std::tuple<unsigned, Segments>> {
 protected:
  static unsigned seed() { return std::get<0>(GetParam()); }
  static Segments segments() { return std::get<1>(GetParam()); }
};

TEST_P(RandomTrace, KeepsItsInvariants) {
  constexpr std::size_t kBudget = 100 * kMiB;
  test::CountingUpstream upstream;
  CachingAllocator memory(upstream, kBudget, segments());
  random_trace(memory, seed(), 4000, [&](const std::vector<Live>& live) {
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
  CachingAllocator memory(upstream, kBudget, segments());
  PlainModel model(kBudget, segments());
  std::mt19937 random(seed());
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
    CachingAllocator memory(upstream, kBudget, segments());
    memory.set_observer([&](const MemoryEvent& event) { positions.push_back(event.position); });
    random_trace(memory, seed(), 4000, [](const std::vector<Live>&) {});
    return memory.stats();
  };
  DryRunUpstream dry;
  HostUpstream host;
  test::DescendingUpstream descending;
  std::vector<std::uint64_t> on_dry, on_host, on_descending;
  const MemoryStats expected = run(dry, on_dry);
  EXPECT_GT(expected.cache_releases, 0u);
  EXPECT_TRUE(run(host, on_host) == expected);
  EXPECT_TRUE(run(descending, on_descending) == expected);
  EXPECT_EQ(on_host, on_dry);
  EXPECT_EQ(on_descending, on_dry);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomTrace,
                         testing::Combine(testing::Range(1u, 6u),
                                          testing::Values(Segments::kFixed,
                                                          Segments::kExpandable)));

class HostMemory : public testing::TestWithParam<Segments> {};
INSTANTIATE_TEST_SUITE_P(Segments, HostMemory,
                         testing::Values(Segments::kFixed, Segments::kExpandable));

TEST_P(HostMemory, LiveBlocksKeepTheirContents) {
  HostUpstream upstream;
  CachingAllocator memory(upstream, 64 * kMiB, GetParam());
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
    if (step % 100 == 0) memory.release_cached();
  }
}

}  // namespace
}  // namespace gpt2train
