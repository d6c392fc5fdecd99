// From text to tokens and back: GPT-2's byte-level BPE, single bytes, or single characters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gpt2train {

using Token = std::uint16_t;  // as token files have them

inline constexpr std::int64_t kMostTokens = 65536;                   // of a vocabulary
inline constexpr std::size_t kMostTextBytes = std::size_t{1} << 30;  // of one text
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

// Whether the text "<|endoftext|>" is the token of that name or 13 characters like any others.
enum class SpecialTokens : std::uint8_t { kAsText, kRecognise };

// Encodes; has a cache, so each thread needs its own. Its tokenizer must outlive it.
class Encoder {
 public:
  virtual ~Encoder() = default;
  // Appends the tokens of `text`: at most kMostTextBytes of any bytes. Where a tokenizer is about
  // characters, what is not well-formed UTF-8 counts as U+FFFD. Throws DataError when the
  // vocabulary lacks a character.
  virtual void encode(std::string_view text, SpecialTokens special, std::vector<Token>& tokens) = 0;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::int64_t vocab_size() const = 0;
  // The token between documents; bytes and characters have none.
  virtual std::optional<Token> end_of_text() const = 0;
  // What a token below vocab_size() stands for; not always whole characters.
  virtual std::string_view bytes_of(Token token) const = 0;
  virtual std::unique_ptr<Encoder> make_encoder() const = 0;
};

// What `directory` holds: meta.json or nanoGPT's meta.pkl (characters or bytes, see meta.h),
// vocab.bpe or merges.txt with or without encoder.json or vocab.json, or tokenizer.json (see
// vocabulary.h). Throws DataError.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& directory);

}  // namespace gpt2train
