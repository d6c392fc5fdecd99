#include "src/tokenizer/merger.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "gpt2train/core/error.h"

namespace gpt2train {

MergeTable::MergeTable(const std::vector<Merge>& merges)
    : mask_(std::bit_ceil(merges.size() * 2 + 2) - 1), slots_(mask_ + 1) {
  GPT2_CHECK(merges.size() < kNone, merges.size(), " merges");
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const std::uint32_t pair = std::uint32_t{merge.left} << 16 | merge.right;
    std::size_t slot = slot_of(pair);
    while (slots_[slot].found.rank != kNone) slot = (slot + 1) & mask_;
    slots_[slot] = {pair, {static_cast<std::uint16_t>(rank), merge.result}};
  }
}

// Adds the pair that begins at `left` to the heap, where it merges.
void Merger::consider(std::uint32_t left) {
  const std::uint32_t right = nodes_[left].next;
  if (right == nodes_.size()) return;
  const auto found = table_.find(nodes_[left].token, nodes_[right].token);
  if (found.rank == MergeTable::kNone) return;
  heap_.push_back(std::uint64_t{found.rank} << 32 | left);
}

void Merger::merge(std::string_view piece, std::vector<Token>& tokens) {
  const auto count = static_cast<std::uint32_t>(piece.size());
  nodes_.resize(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    nodes_[i] = {byte_tokens_[static_cast<unsigned char>(piece[i])], false, i - 1, i + 1};
  }
  heap_.clear();
  for (std::uint32_t i = 0; i < count; ++i) consider(i);
  std::make_heap(heap_.begin(), heap_.end(), std::greater<>());

  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const std::uint64_t entry = heap_.back();
    heap_.pop_back();
    const auto left = static_cast<std::uint32_t>(entry);
    const std::uint32_t right = nodes_[left].next;
    if (nodes_[left].gone || right == count) continue;
    const auto found = table_.find(nodes_[left].token, nodes_[right].token);
    if (found.rank != entry >> 32) continue;  // its tokens have merged with others

    const auto push = [&](std::uint32_t place) {
      const std::size_t before = heap_.size();
      consider(place);
      if (heap_.size() > before) std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    };
    nodes_[left].token = found.result;
    nodes_[left].next = nodes_[right].next;
    nodes_[right].gone = true;
    if (nodes_[left].next < count) nodes_[nodes_[left].next].previous = left;
    push(left);
    if (left > 0) push(nodes_[left].previous);
  }
  for (std::uint32_t i = 0; i < count; i = nodes_[i].next) tokens.push_back(nodes_[i].token);
}

}  // namespace gpt2train
