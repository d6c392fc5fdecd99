#include "gpt2train/tokenizer/unicode.h"

#include <array>
#include <cstring>
#include <memory>
#include <span>

#include "src/tokenizer/unicode_ranges.h"

namespace gpt2train {
namespace {

using ClassTable = std::array<CharacterClass, 0x110000>;

// A byte a code point: faster than a search, and a text touches few of its pages.
std::unique_ptr<ClassTable> make_class_table() {
  auto table = std::make_unique_for_overwrite<ClassTable>();
  const auto fill = [&](std::span<const CharacterRange> ranges, CharacterClass value) {
    for (const CharacterRange& range : ranges) {
      std::fill(table->begin() + range.first, table->begin() + range.last + 1, value);
    }
  };
  table->fill(CharacterClass::kOther);
  fill(kLetterRanges, CharacterClass::kLetter);
  fill(kNumberRanges, CharacterClass::kNumber);
  fill(kSpaceRanges, CharacterClass::kSpace);
  return table;
}

struct Sequence {
  std::size_t bytes = 0;  // where it is ill-formed, those of its maximal subpart
  bool valid = false;
};

// Table 3-7 of the standard: which second bytes follow a lead decides what is overlong, a surrogate
// or beyond the last plane.
Sequence first_sequence(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size() || byte(i) < low || byte(i) > high) return {i, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true};
}

// Bytes of ASCII at the start, in whole words: most of most texts.
std::size_t ascii_words(std::string_view text) {
  std::size_t at = 0;
  for (std::uint64_t word = 0; at + sizeof word <= text.size(); at += sizeof word) {
    std::memcpy(&word, text.data() + at, sizeof word);
    if ((word & 0x8080808080808080u) != 0) break;
  }
  return at;
}

}  // namespace

CharacterClass class_of(char32_t code) {
  static const std::unique_ptr<ClassTable> table = make_class_table();
  return (*table)[code];
}

void append_utf8(std::string& text, char32_t code) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      put(0xE0 | code >> 12);
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
    }
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

std::size_t valid_utf8_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t ascii = ascii_words(text.substr(at));
    at += ascii;
    if (ascii > 0) continue;
    const Sequence sequence = first_sequence(text.substr(at));
    if (!sequence.valid) return at;
    at += sequence.bytes;
  }
  return at;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string repaired;
  repaired.reserve(text.size());
  for (;;) {
    const std::size_t valid = valid_utf8_prefix(text);
    repaired += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) return repaired;
    repaired += "\uFFFD";
    text.remove_prefix(first_sequence(text).bytes);
  }
}

}  // namespace gpt2train
