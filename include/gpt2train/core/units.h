// Bytes, counts and durations as people write and read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gpt2train {

inline constexpr std::size_t kKiB = std::size_t{1} << 10;
inline constexpr std::size_t kMiB = std::size_t{1} << 20;
inline constexpr std::size_t kGiB = std::size_t{1} << 30;

std::string human_bytes(std::size_t bytes);   // "6.14 GiB"
std::string human_count(std::int64_t count);  // "124.48M"
std::string human_seconds(double seconds);    // "2h05m", "3m10s", "12s"
std::string with_commas(std::int64_t count);  // "124,475,904"

// "10GiB", "512 MiB", "2.5G", "4096": binary units, a bare number is bytes. Empty if it is not one.
std::optional<std::size_t> parse_bytes(std::string_view text);

}  // namespace gpt2train
