// The vocabulary of a byte-level BPE in the files of OpenAI and of Hugging Face.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/tokenizer/tokenizer.h"

namespace gpt2train {

// Two neighbours become one token. Both are bytes or results of earlier merges.
struct Merge {
  Token left = 0;
  Token right = 0;
  Token result = 0;
};

struct Vocabulary {
  std::vector<std::string> tokens;       // the bytes of each token
  std::array<Token, 256> byte_tokens{};  // the token of each byte
  std::vector<Merge> merges;             // the first goes first
  Token end_of_text = 0;
};

// The 256 bytes in the order of their tokens in GPT-2: printable ones first.
const std::array<unsigned char, 256>& gpt2_byte_order();

// Reads, whichever is there first,
//   vocab.bpe or merges.txt: merges, one a line. With encoder.json or vocab.json beside it, tokens
//     have the numbers given there, else GPT-2's: bytes, merges in their order, "<|endoftext|>";
//   tokenizer.json: of a ByteLevel BPE without normalizer, as GPT-2's.
// Every token is a byte, the result of a merge, or "<|endoftext|>", and the numbers have no gaps.
// Throws DataError with path and line or token.
Vocabulary load_vocabulary(const std::string& directory);

// A file's text and the path that errors name.
struct NamedText {
  std::string path;
  std::string text;
};

// The same from vocab.bpe or merges.txt, with or without encoder.json or vocab.json.
Vocabulary parse_merges(const NamedText& merges, const std::optional<NamedText>& numbers);
// The same from tokenizer.json.
Vocabulary parse_tokenizer_json(const NamedText& file);

// The vocabulary of these merges, numbered as GPT-2's; results differ from each other and are
// numbered from 256 on.
Vocabulary make_vocabulary(const std::vector<Merge>& merges);

// Writes vocab.bpe and encoder.json. Throws DataError.
void save_vocabulary(const Vocabulary& vocabulary, const std::string& directory);

}  // namespace gpt2train
