#include "src/cli/progress_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

// In the order of the line; the highest rank goes first where there is no room.
struct Piece {
  int rank;
  std::string text;
};

constexpr std::string_view kBetween = "  ";
constexpr int kLeastBar = 6, kWidestBar = 26;  // with its brackets

std::string bar(std::int64_t step, std::int64_t last, int width) {
  const auto inside = static_cast<std::int64_t>(width) - 2;
  const std::int64_t filled = std::clamp<std::int64_t>(step * inside / last, 0, inside);
  return fmt::format("[{:<{}}]", std::string(static_cast<std::size_t>(filled), '='), inside);
}

// One unit for all three, that of the budget: "8.13/9.30/11.22 GiB".
std::string memory_text(const ProgressLine& line) {
  const bool large = line.budget_bytes >= kGiB;
  const auto unit = static_cast<double>(large ? kGiB : kMiB);
  const auto number = [&](std::size_t bytes) {
    return fmt::format("{:.{}f}", static_cast<double>(bytes) / unit, large ? 2 : 0);
  };
  return fmt::format("mem {}/{}/{} {}", number(line.in_use_bytes), number(line.peak_bytes),
                     number(line.budget_bytes), large ? "GiB" : "MiB");
}

int width_of(const std::vector<Piece>& pieces) {
  std::size_t width = 0;
  for (const Piece& piece : pieces) {
    width += piece.text.size() + (width == 0 ? 0 : kBetween.size());
  }
  return static_cast<int>(width);
}

}  // namespace

std::string progress_line(const ProgressLine& line, int columns) {
  const std::int64_t last = std::max<std::int64_t>(line.last_step, 1);
  std::vector<Piece> pieces = {{0, fmt::format("{}/{}", line.step, last)},
                               {6, fmt::format("{} {}/{}", line.what, line.done, line.of)}};
  if (line.pace) {
    pieces.push_back({4, fmt::format("loss {:.4f}", line.pace->loss)});
    pieces.push_back({5, fmt::format("{:.0f} tok/s", line.pace->tokens_per_second)});
  }
  pieces.push_back({1, memory_text(line)});
  if (line.others_bytes.value_or(0) > 0) {
    pieces.push_back({2, "others " + human_bytes(*line.others_bytes)});
  }
  if (line.pace) pieces.push_back({3, "left " + human_seconds(line.pace->seconds_left)});

  const auto by_rank = [](const Piece& a, const Piece& b) { return a.rank < b.rank; };
  while (pieces.size() > 1 && width_of(pieces) > columns) {
    pieces.erase(std::max_element(pieces.begin(), pieces.end(), by_rank));
  }
  const int room = columns - width_of(pieces) - static_cast<int>(kBetween.size());
  std::string text = room < kLeastBar
                         ? ""
                         : bar(line.step, last, std::min(room, kWidestBar)) + std::string(kBetween);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    text += (i == 0 ? "" : std::string(kBetween)) + pieces[i].text;
  }
  return text.substr(0, static_cast<std::size_t>(std::max(columns, 0)));
}

std::optional<std::size_t> bytes_of_others(std::span<const ProcessMemory> processes, int own_pid) {
  std::size_t bytes = 0;
  bool own_seen = false;
  for (const ProcessMemory& process : processes) {
    if (process.pid == own_pid) {
      own_seen = true;
    } else {
      bytes += process.bytes.value_or(0);
    }
  }
  return own_seen ? std::optional(bytes) : std::nullopt;
}

}  // namespace gpt2train
