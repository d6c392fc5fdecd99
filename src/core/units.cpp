#include "gpt2train/core/units.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cmath>

namespace gpt2train {

std::string human_bytes(std::size_t bytes) {
  if (bytes < kKiB) return fmt::format("{} B", bytes);
  const double value = static_cast<double>(bytes);
  if (bytes < kMiB) return fmt::format("{:.2f} KiB", value / static_cast<double>(kKiB));
  if (bytes < kGiB) return fmt::format("{:.2f} MiB", value / static_cast<double>(kMiB));
  return fmt::format("{:.2f} GiB", value / static_cast<double>(kGiB));
}

std::string human_count(std::int64_t count) {
  const double value = static_cast<double>(count);
  if (count >= 1'000'000'000) return fmt::format("{:.2f}B", value * 1e-9);
  if (count >= 1'000'000) return fmt::format("{:.2f}M", value * 1e-6);
  if (count >= 10'000) return fmt::format("{:.1f}k", value * 1e-3);
  return fmt::format("{}", count);
}

std::string human_seconds(double seconds) {
  if (!(seconds >= 0.0) || seconds > 1e9) return "?";
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole >= 86400) return fmt::format("{}d{:02}h", whole / 86400, whole % 86400 / 3600);
  if (whole >= 3600) return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
  if (whole >= 60) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}s", whole);
}

std::string with_commas(std::int64_t count) {
  std::string digits = fmt::format("{}", count);
  const std::size_t first = count < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, 1, ',');
  return digits;
}

std::optional<std::size_t> parse_bytes(std::string_view text) {
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !std::isfinite(value) || value < 0.0) return std::nullopt;

  std::string unit;
  for (const char* c = end; c != text.data() + text.size(); ++c) {
    if (*c != ' ') unit += static_cast<char>(std::toupper(static_cast<unsigned char>(*c)));
  }
  double scale = 1.0;
  if (unit == "K" || unit == "KB" || unit == "KIB") {
    scale = static_cast<double>(kKiB);
  } else if (unit == "M" || unit == "MB" || unit == "MIB") {
    scale = static_cast<double>(kMiB);
  } else if (unit == "G" || unit == "GB" || unit == "GIB") {
    scale = static_cast<double>(kGiB);
  } else if (!unit.empty() && unit != "B") {
    return std::nullopt;
  }
  const double bytes = value * scale;
  if (bytes >= 0x1p63) return std::nullopt;
  return static_cast<std::size_t>(bytes);
}

}  // namespace gpt2train
