// Tokenizers of single bytes and of single characters, and what says that a data set was made with
// them: meta.json,
//   {"kind": "char", "vocab_size": 3, "itos": ["\n", " ", "a"]}, or {"kind": "bytes", "vocab_size":
//   256},
// and nanoGPT's meta.pkl, a pickle of characters alone,
//   {"vocab_size": 3, "itos": {0: "\n", 1: " ", 2: "a"}, "stoi": {"\n": 0, " ": 1, "a": 2}}
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gpt2train/tokenizer/tokenizer.h"

namespace gpt2train {

// A byte is its own token.
std::unique_ptr<Tokenizer> make_byte_tokenizer();

// The different characters of a corpus, to be given text by text.
class CharacterSet {
 public:
  CharacterSet() : seen_(0x110000) {}
  void add(std::string_view text);  // what is not well-formed UTF-8 counts as U+FFFD
  void add(const CharacterSet& other);
  std::u32string sorted() const;  // by code point

 private:
  std::vector<bool> seen_;
};

// Character i of `characters` is token i; as nanoGPT has them, they are sorted. `path` is what
// errors name. Throws DataError where there are none, too many, or one twice.
std::unique_ptr<Tokenizer> make_character_tokenizer(const std::u32string& characters,
                                                    const std::string& path);

// What meta.json says of them.
std::string byte_meta();
std::string character_meta(const std::u32string& characters);
// What meta.pkl says of them.
std::string character_pickle(const std::u32string& characters);

// Either of the two, told by its first byte; `path` is what errors name. Throws DataError.
std::unique_ptr<Tokenizer> parse_meta(const std::string& text, const std::string& path);
std::unique_ptr<Tokenizer> load_meta(const std::string& path);

}  // namespace gpt2train
