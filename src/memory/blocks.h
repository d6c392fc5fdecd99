// What the allocator knows of its memory. The blocks of a segment are a list in address order; free
// ones also stand in a list sorted by (size, position), so best fit is one search and reads no
// address.
#pragma once

#include <algorithm>
#include <deque>
#include <list>
#include <string>
#include <utility>
#include <vector>

#include "gpt2train/memory/allocator.h"

namespace gpt2train {

struct CachingAllocator::Block {
  Segment* segment = nullptr;
  Block* previous = nullptr;  // in the segment; nullptr at its ends
  Block* next = nullptr;
  char* address = nullptr;
  std::uint64_t position = 0;  // as in MemoryEvent
  std::size_t bytes = 0;
  bool free = true;
  Tag tag = Tag::kWorkspace;
  std::string tensor = {};
};

struct CachingAllocator::Segment {
  char* base = nullptr;
  std::size_t bytes = 0;          // with memory behind them
  std::size_t address_bytes = 0;  // that it may grow to; 0: it is fixed
  std::uint64_t position = 0;     // of its first byte
  bool small = false;
  Block* first = nullptr;  // in address order
  Block* last = nullptr;
};

struct CachingAllocator::State {
  // A sorted array: a run has tens of free blocks, and moving them costs less than a tree's nodes.
  class FreeList {
   public:
    void insert(Block* block) {
      const Entry entry{block->bytes, block->position, block};
      entries_.insert(lower_bound(entry), entry);
    }
    void erase(const Block* block) {
      entries_.erase(lower_bound({block->bytes, block->position, nullptr}));
    }
    // The best fit, out of the list; nullptr where none is large enough.
    Block* take(std::size_t bytes) {
      const auto it = lower_bound({bytes, 0, nullptr});
      if (it == entries_.end()) return nullptr;
      Block* block = it->block;
      entries_.erase(it);
      return block;
    }
    std::size_t largest_bytes() const { return entries_.empty() ? 0 : entries_.back().bytes; }

   private:
    struct Entry {
      std::size_t bytes = 0;
      std::uint64_t position = 0;
      Block* block = nullptr;
    };
    std::vector<Entry>::iterator lower_bound(const Entry& entry) {
      return std::lower_bound(
          entries_.begin(), entries_.end(), entry, [](const Entry& a, const Entry& b) {
            return a.bytes != b.bytes ? a.bytes < b.bytes : a.position < b.position;
          });
    }
    std::vector<Entry> entries_;
  };

  // Live blocks by address: open addressing, at most half full.
  class AddressTable {
   public:
    std::size_t size() const { return size_; }
    template <class Visit>
    void for_each(const Visit& visit) const {
      for (const Block* block : slots_) {
        if (block != nullptr) visit(*block);
      }
    }
    void insert(Block* block) {
      if (2 * ++size_ > slots_.size()) grow();
      put(block);
    }
    // The block at `address`, out of the table; nullptr for a stranger.
    Block* take(const void* address) {
      std::size_t hole = home(address);
      while (slots_[hole] != nullptr && slots_[hole]->address != address) hole = after(hole);
      Block* const found = slots_[hole];
      if (found == nullptr) return nullptr;
      // Later entries of the run move up into the hole, unless that is before their home.
      for (std::size_t at = after(hole); slots_[at] != nullptr; at = after(at)) {
        const std::size_t wanted = home(slots_[at]->address);
        if (((at - wanted) & mask()) < ((at - hole) & mask())) continue;
        slots_[hole] = slots_[at];
        hole = at;
      }
      slots_[hole] = nullptr;
      --size_;
      return found;
    }

   private:
    std::size_t mask() const { return slots_.size() - 1; }
    std::size_t after(std::size_t slot) const { return (slot + 1) & mask(); }
    std::size_t home(const void* address) const {
      const auto unit = reinterpret_cast<std::uintptr_t>(address) / kAlignment;
      return (unit * 0x9E3779B97F4A7C15u >> 32) & mask();
    }
    void put(Block* block) {
      std::size_t slot = home(block->address);
      while (slots_[slot] != nullptr) slot = after(slot);
      slots_[slot] = block;
    }
    void grow() {
      const std::vector<Block*> before =
          std::exchange(slots_, std::vector<Block*>(2 * slots_.size()));
      for (Block* block : before) {
        if (block != nullptr) put(block);
      }
    }
    std::vector<Block*> slots_ = std::vector<Block*>(256);
    std::size_t size_ = 0;
  };

  FreeList& free_list(bool small) { return small ? free_small : free_large; }

  Block* new_block() {
    if (spare == nullptr) return &blocks.emplace_back();
    Block* block = spare;
    spare = block->next;
    return block;
  }
  void recycle(Block* block) {
    block->next = spare;
    spare = block;
  }
  // Takes the block after `block` in the segment into it.
  void absorb_next(Block* block) {
    Block* next = block->next;
    block->bytes += next->bytes;
    block->next = next->next;
    (block->next != nullptr ? block->next->previous : block->segment->last) = block;
    recycle(next);
  }

  std::list<Segment> segments;  // oldest first
  Segment* expandable[2] = {};  // of small requests, of others
  std::uint64_t next_position = 0;
  FreeList free_small, free_large;
  AddressTable live;
  std::deque<Block> blocks;  // all that ever were; those of no segment are on the spare list
  Block* spare = nullptr;
};

}  // namespace gpt2train
