#include "gpt2train/tokenizer/scanner.h"

#include "gpt2train/tokenizer/unicode.h"

namespace gpt2train {
namespace {

struct Classified {
  CharacterClass type = CharacterClass::kOther;
  std::size_t bytes = 0;
};

Classified classify(const char* text) {
  const Character character = first_character(text);
  return {class_of(character.code), character.bytes};
}

// Bytes of the contraction that `text` starts with, or 0.
std::size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  switch (text[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return text.size() > 2 && text[2] == 'e' ? 3 : 0;
    case 'l':
      return text.size() > 2 && text[2] == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

// White space: all of it at the end of the text, else all but the last character, which a following
// word may want, else that one.
std::size_t space(std::string_view text) {
  std::size_t before_last = 0;
  std::size_t length = 0;
  while (length < text.size()) {
    const Classified next = classify(text.data() + length);
    if (next.type != CharacterClass::kSpace) return before_last > 0 ? before_last : length;
    before_last = length;
    length += next.bytes;
  }
  return length;
}

}  // namespace

std::size_t first_piece(std::string_view text) {
  if (const std::size_t length = contraction(text); length > 0) return length;
  std::size_t length = text[0] == ' ' && text.size() > 1 ? 1 : 0;
  const Classified first = classify(text.data() + length);
  if (first.type == CharacterClass::kSpace) return space(text);
  length += first.bytes;
  while (length < text.size()) {
    const Classified next = classify(text.data() + length);
    if (next.type != first.type) break;
    length += next.bytes;
  }
  return length;
}

}  // namespace gpt2train
