#include "gpt2train/memory/report.h"

#include <gtest/gtest.h>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

TEST(MemoryTable, ShowsCategoriesPeaksWhatIsUnusedAndWhatHappened) {
  MemoryStats stats{.allocated_bytes = 400 * kMiB,
                    .peak_allocated_bytes = 600 * kMiB,
                    .reserved_bytes = 640 * kMiB,
                    .peak_reserved_bytes = 800 * kMiB,
                    .peak_phase = Phase::kTraining,
                    .peak_scope = "step 0/micro 1/block 3",
                    .cache_releases = 2};
  stats.by_tag[static_cast<std::size_t>(Tag::kWeights)] = 400 * kMiB;
  stats.by_tag_at_peak[static_cast<std::size_t>(Tag::kWeights)] = 400 * kMiB;
  stats.by_tag_at_peak[static_cast<std::size_t>(Tag::kActivations)] = 200 * kMiB;
  stats.peak_by_phase = {400 * kMiB, 600 * kMiB, 0, 0, 0};
  stats.largest_at_peak = {{"wte", Tag::kWeights, 1, 400 * kMiB},
                           {"attention_projection", Tag::kActivations, 12, 150 * kMiB}};
  const MemoryCounts counts{.allocations = 12345,
                            .frees = 12300,
                            .allocated_bytes = 3 * kGiB,
                            .segments_taken = 14,
                            .segments_returned = 2};
  EXPECT_EQ(memory_summary(stats, counts, 90 * kMiB),
            "memory            at the peak                   now\n"
            "  weights          400.00 MiB   66.7 %   400.00 MiB  100.0 %\n"
            "  activations      200.00 MiB   33.3 %          0 B    0.0 %\n"
            "  allocated        600.00 MiB            400.00 MiB         \n"
            "  reserved         800.00 MiB            640.00 MiB         \n"
            "  of it unused     200.00 MiB   25.0 %   240.00 MiB   37.5 %\n"
            "the peak was in training (step 0/micro 1/block 3)\n"
            "  setup            400.00 MiB\n"
            "  training         600.00 MiB\n"
            "largest at the peak\n"
            "  wte                    400.00 MiB   66.7 %  1 x weights\n"
            "  attention_projection   150.00 MiB   25.0 %  12 x activations\n"
            "the cache was given back to make room: 2 x\n"
            "since the start: 12,345 allocations of 3.00 GiB together, 12,300 frees\n"
            "                 14 segments taken, 2 given back\n"
            "largest free block: 90.00 MiB");
}

TEST(MemoryTable, OfAnUnusedAllocatorSaysSo) {
  const std::string table = memory_table({});
  EXPECT_EQ(table.substr(table.rfind('\n') + 1), "nothing was allocated");
  EXPECT_EQ(table.find('%'), std::string::npos);
}

}  // namespace
}  // namespace gpt2train
