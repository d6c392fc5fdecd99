// UTF-8 and the classes of characters that GPT-2's split pattern asks for (Unicode 16.0.0).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace gpt2train {

enum class CharacterClass : std::uint8_t { kOther, kLetter, kNumber, kSpace };

// \p{L}, \p{N}, White_Space or none of them. `code` is below 0x110000.
CharacterClass class_of(char32_t code);

struct Character {
  char32_t code = 0;
  std::size_t bytes = 0;
};

// The character at the start of well-formed UTF-8, which is not checked again.
inline Character first_character(const char* text) {
  const auto byte = [&](int i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const auto trail = [&](int i) { return byte(i) & 0x3F; };
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | trail(1), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | trail(1) << 6 | trail(2), 3};
  return {(lead & 0x07) << 18 | trail(1) << 12 | trail(2) << 6 | trail(3), 4};
}

// Appends the UTF-8 of a code point, which is no surrogate.
void append_utf8(std::string& text, char32_t code);

// Bytes before the first one that is not well-formed UTF-8; all of them where there is none.
std::size_t valid_utf8_prefix(std::string_view text);

// U+FFFD in place of each maximal subpart that is ill-formed (Unicode 16, chapter 3, table 3-8), as
// Python's errors="replace" has it.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace gpt2train
