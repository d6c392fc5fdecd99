// Tokenizers of single bytes and of single characters, and meta.json, which says what a data set
// was made with (nanoGPT's meta.pkl in another form):
//   {"kind": "char", "vocab_size": 3, "itos": ["\n", " ", "a"]}, or {"kind": "bytes", "vocab_size":
//   256}
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

// Throws DataError.
std::unique_ptr<Tokenizer> load_meta(const std::string& path);

}  // namespace gpt2train
