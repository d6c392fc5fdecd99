// Merges the bytes of one piece, in a time of n log n: a heap has the pairs that may merge, and
// what a merge makes invalid is passed over when it is met.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "gpt2train/tokenizer/vocabulary.h"

namespace gpt2train {

// The merge of each pair of tokens: a hash table with open addressing.
class MergeTable {
 public:
  static constexpr std::uint16_t kNone = 0xFFFF;  // no vocabulary has as many merges

  struct Found {
    std::uint16_t rank = kNone;
    Token result = 0;
  };

  explicit MergeTable(const std::vector<Merge>& merges);
  Found find(Token left, Token right) const {
    const std::uint32_t pair = std::uint32_t{left} << 16 | right;
    std::size_t slot = slot_of(pair);
    while (slots_[slot].found.rank != kNone && slots_[slot].pair != pair) slot = (slot + 1) & mask_;
    return slots_[slot].found;
  }

 private:
  struct Slot {
    std::uint32_t pair = 0;
    Found found = {};
  };
  std::size_t slot_of(std::uint32_t pair) const {
    return static_cast<std::size_t>(pair * 0x9E3779B97F4A7C15u >> 32) & mask_;
  }

  std::size_t mask_ = 0;
  std::vector<Slot> slots_;
};

// Scratch memory for merging; one a thread.
class Merger {
 public:
  // Both must outlive it.
  Merger(const std::array<Token, 256>& byte_tokens, const MergeTable& table)
      : byte_tokens_(byte_tokens), table_(table) {}
  // Appends the tokens of a piece of less than 4 GiB.
  void merge(std::string_view piece, std::vector<Token>& tokens);

 private:
  // A token in the list of those left over; merged ones are skipped by the links.
  struct Node {
    Token token = 0;
    bool gone = false;
    std::uint32_t previous = 0;
    std::uint32_t next = 0;
  };
  void consider(std::uint32_t left);

  const std::array<Token, 256>& byte_tokens_;
  const MergeTable& table_;
  std::vector<Node> nodes_;
  std::vector<std::uint64_t> heap_;  // rank, then place: the smallest goes first
};

}  // namespace gpt2train
