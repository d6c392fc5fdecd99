#include "gpt2train/memory/report.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <fstream>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

std::string share(std::size_t part, std::size_t whole) {
  if (whole == 0) return {};
  return fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

// One line; each share is of the whole in its own column.
std::string row(const char* name, std::size_t peak, std::size_t whole_peak, std::size_t now,
                std::size_t whole_now) {
  return fmt::format("  {:<14} {:>12} {:>8} {:>12} {:>8}\n", name, human_bytes(peak),
                     share(peak, whole_peak), human_bytes(now), share(now, whole_now));
}

}  // namespace

std::string memory_table(const MemoryStats& stats) {
  std::string text = fmt::format("{:<16} {:>12} {:>21}\n", "memory", "at the peak", "now");
  for (std::size_t tag = 0; tag < kTagCount; ++tag) {
    const std::size_t peak = stats.by_tag_at_peak[tag], now = stats.by_tag[tag];
    if (peak == 0 && now == 0) continue;
    text += row(name_of(static_cast<Tag>(tag)), peak, stats.peak_allocated_bytes, now,
                stats.allocated_bytes);
  }
  text += row("allocated", stats.peak_allocated_bytes, 0, stats.allocated_bytes, 0);
  text += row("reserved", stats.peak_reserved_bytes, 0, stats.reserved_bytes, 0);
  text += row("of it unused", stats.peak_reserved_bytes - stats.peak_allocated_bytes,
              stats.peak_reserved_bytes, stats.reserved_bytes - stats.allocated_bytes,
              stats.reserved_bytes);
  if (stats.peak_allocated_bytes == 0) return text + "nothing was allocated";
  text += fmt::format("the peak was in {} ({})", name_of(stats.peak_phase), stats.peak_scope);
  for (std::size_t phase = 0; phase < kPhaseCount; ++phase) {
    if (stats.peak_by_phase[phase] == 0) continue;
    text += fmt::format("\n  {:<14} {:>12}", name_of(static_cast<Phase>(phase)),
                        human_bytes(stats.peak_by_phase[phase]));
  }
  if (!stats.largest_at_peak.empty()) text += "\nlargest at the peak";
  for (const TensorBytes& entry : stats.largest_at_peak) {
    text += fmt::format("\n  {:<20} {:>12} {:>8}  {} x {}", entry.tensor, human_bytes(entry.bytes),
                        share(entry.bytes, stats.peak_allocated_bytes), entry.count,
                        name_of(entry.tag));
  }
  if (stats.cache_releases > 0) {
    text += fmt::format("\nthe cache was given back to make room: {} x", stats.cache_releases);
  }
  return text;
}

std::string memory_summary(const MemoryStats& stats, const MemoryCounts& counts,
                           std::size_t largest_free_block_bytes) {
  const auto number = [](std::uint64_t count) {
    return with_commas(static_cast<std::int64_t>(count));
  };
  return memory_table(stats) +
         fmt::format(
             "\nsince the start: {} allocations of {} together, {} frees\n"
             "                 {} segments taken, {} given back\nlargest free block: {}",
             number(counts.allocations), human_bytes(counts.allocated_bytes), number(counts.frees),
             number(counts.segments_taken), number(counts.segments_returned),
             human_bytes(largest_free_block_bytes));
}

void forget_peak_resident_bytes() {
  std::ofstream("/proc/self/clear_refs") << "5";  // where that is forbidden, the peak stays
}

std::size_t peak_resident_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * kKiB;
}

}  // namespace gpt2train
