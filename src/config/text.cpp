#include "src/config/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <numeric>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

// from_chars takes no blanks, no leading +, no hexadecimal and no octal.
template <class Number>
bool parse_number(std::string_view text, Number& value) {
  const std::string_view digits = text.substr(text.starts_with('-') ? 1 : 0);
  const bool leading_zero = digits.size() > 1 && digits[0] == '0' && is_digit(digits[1]);
  const char* const end = text.data() + text.size();
  Number parsed{};
  const auto [at, error] = std::from_chars(text.data(), end, parsed);
  if (leading_zero || error != std::errc{} || at != end) return false;
  value = parsed;
  return true;
}

std::string interval(const Range& range) {
  if (range.low == Range{}.low) return "";
  return fmt::format(" in [{}, {}{}", text_of(range.low), text_of(range.high),
                     range.high_is_open ? ')' : ']');
}

}  // namespace

bool parse(std::string_view text, std::string& value) {
  value = text;
  return true;
}

bool parse(std::string_view text, std::int64_t& value) {
  return parse_number(text, value);
}

bool parse(std::string_view text, std::uint64_t& value) {
  return parse_number(text, value);
}

bool parse(std::string_view text, double& value) {
  return parse_number(text, value);
}

bool parse(std::string_view text, MemoryLimit& value) {
  if (text == "auto") {
    value = {};
    return true;
  }
  const bool percent = text.ends_with('%');
  const bool plain_integer = std::all_of(text.begin(), text.end(), is_digit);
  double share = 0.0;
  if (!plain_integer && parse(text.substr(0, text.size() - (percent ? 1 : 0)), share)) {
    if (percent) share /= 100.0;
    if (!(share > 0.0 && share <= 1.0)) return false;
    value = {.kind = MemoryLimit::Kind::kFraction, .fraction = share};
    return true;
  }
  const std::size_t bytes = parse_bytes(text).value_or(0);
  if (bytes == 0) return false;
  value = {.kind = MemoryLimit::Kind::kBytes, .bytes = bytes};
  return true;
}

std::string text_of(const std::string& value) {
  return value;
}

std::string text_of(std::int64_t value) {
  return fmt::format("{}", value);
}

std::string text_of(std::uint64_t value) {
  return fmt::format("{}", value);
}

std::string text_of(double value) {
  return fmt::format("{}", value);
}

std::string text_of(const MemoryLimit& value) {
  if (value.kind == MemoryLimit::Kind::kAuto) return "auto";
  if (value.kind == MemoryLimit::Kind::kFraction) {
    return value.fraction == 1.0 ? "1.0" : text_of(value.fraction);  // 1 would be a byte
  }
  if (value.bytes % kGiB == 0) return fmt::format("{}GiB", value.bytes / kGiB);
  if (value.bytes % kMiB == 0) return fmt::format("{}MiB", value.bytes / kMiB);
  return fmt::format("{}", value.bytes);
}

std::string type_of(const std::string&, const Range& range) {
  return range.low > 0.0 ? "text, not empty" : "text";
}

std::string type_of(std::int64_t, const Range& range) {
  return "integer" + interval(range);
}

std::string type_of(std::uint64_t, const Range&) {
  return "integer in [0, 2^64)";
}

std::string type_of(double, const Range& range) {
  return "number" + interval(range);
}

std::string type_of(const MemoryLimit&, const Range&) {
  return "auto, bytes (10GiB) or a fraction in (0, 1] (0.8, 80%)";
}

std::string type_of(DeviceChoice, const Range&) {
  return "one of auto|cpu|cuda, or a card (devices --catalogue)";
}

bool contains(const Range& range, const std::string& value) {
  return contains(range, static_cast<double>(value.size()));
}

bool contains(const Range& range, std::int64_t value) {
  return contains(range, static_cast<double>(value));
}

bool contains(const Range& range, double value) {
  // In float, as kernels have it: 0.99999999999 is 1 there.
  if (range.high_is_open && static_cast<float>(value) >= static_cast<float>(range.high)) {
    return false;
  }
  return range.low <= value && value <= range.high;
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 60;
  std::string shown(text.substr(0, kLongest));
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return std::iscntrl(c) != 0; }, ' ');
  return text.size() > kLongest ? shown + "..." : shown;
}

std::string in_quotes(std::string_view text) {
  return concat('"', printable(text), '"');
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // from what of a was seen to each beginning of b
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (const char letter : a) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 1; j < row.size(); ++j) {
      const std::size_t replaced = diagonal + (letter == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

void Nearest::consider(const std::string& known, const std::string& shown) {
  const std::size_t edits = edit_distance(word_, known);
  if (edits == 0 || edits >= fewest_edits_) return;
  fewest_edits_ = edits;
  best_ = shown;
}

std::string Nearest::question() const {
  return best_.empty() ? "" : concat("; did you mean ", best_, '?');
}

}  // namespace gpt2train
