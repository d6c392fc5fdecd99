// Byte pair encoding of one's own (Sennrich et al. 2016, over bytes as in Radford et al. 2019).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "gpt2train/tokenizer/vocabulary.h"

namespace gpt2train {

// How often each piece of a text is there. Grows with the number of different pieces.
class PieceCounts {
 public:
  void add(std::string_view text);  // any bytes; invalid UTF-8 counts as U+FFFD
  void add(const PieceCounts& other);
  const std::unordered_map<std::string, std::int64_t>& counts() const { return counts_; }

 private:
  std::unordered_map<std::string, std::int64_t> counts_;
};

// Merges the most frequent pair of neighbouring tokens again and again, until the vocabulary has
// vocab_size tokens (257 to 65,536: bytes, merges and "<|endoftext|>") or no pair is there twice.
// Of pairs as frequent as each other, the one of lower token numbers goes first, so the order of
// texts and the number of threads change nothing. A pair whose bytes are a token already is passed
// over: numbers then follow from the merges. `progress` is told the number of merges from time to
// time.
Vocabulary train_bpe(const PieceCounts& pieces, std::int64_t vocab_size,
                     const std::function<void(std::int64_t)>& progress = {});

}  // namespace gpt2train
