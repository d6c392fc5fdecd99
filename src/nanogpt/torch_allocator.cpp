#include "gpt2train/nanogpt/torch_allocator.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

constexpr std::size_t kUnit = 512;                // of requests
constexpr std::size_t kSmallRequest = kMiB;       // up to here from the small pool
constexpr std::size_t kSmallSegment = 2 * kMiB;   // and the page of its expandable segment
constexpr std::size_t kLargeSegment = 20 * kMiB;  // and the page of the large one
constexpr std::size_t kOwnSegment = 10 * kMiB;    // from here a request has a segment of its size
constexpr std::size_t kLargeStep = 2 * kMiB;
constexpr std::size_t kLargeRest = kMiB;  // a classic large block keeps a rest of up to this

std::size_t round_up(std::size_t bytes, std::size_t step) {
  return (bytes + step - 1) / step * step;
}

std::size_t page_bytes(bool small) {
  return small ? kSmallSegment : kLargeSegment;
}

}  // namespace

const char* name_of(TorchSegments segments) {
  return segments == TorchSegments::kClassic ? "classic" : "expandable";
}

TorchAllocator::TorchAllocator(std::size_t device_bytes, TorchSegments segments)
    : device_bytes_(device_bytes), segments_(segments) {}

std::size_t TorchAllocator::segment_bytes_for(std::size_t bytes) {
  const std::size_t rounded = round_up(bytes, kUnit);
  if (rounded <= kSmallRequest) return kSmallSegment;
  if (rounded < kOwnSegment) return kLargeSegment;
  return round_up(rounded, kLargeStep);
}

std::optional<TorchAllocator::Address> TorchAllocator::allocate(std::size_t bytes) {
  GPT2_CHECK(bytes > 0, "a request for nothing");
  const std::size_t rounded = round_up(bytes, kUnit);
  const bool small = rounded <= kSmallRequest;
  const auto more = [&] {
    return expandable() ? grow_segment(rounded, small) : new_segment(rounded, small);
  };
  std::optional<Address> block = best_fit(rounded, small);
  if (!block) block = more();
  if (!block) {
    ++stats_.retries;
    empty_cache();
    block = more();
  }
  if (block) take(*block, bytes, rounded);
  return block;
}

void TorchAllocator::free(Address address) {
  const auto block = blocks_.find(address);
  GPT2_CHECK(block != blocks_.end() && block->second.state == State::kLive,
             "no live block at address ", address);
  stats_.requested_bytes -= block->second.requested_bytes;
  stats_.allocated_bytes -= block->second.bytes;
  set_state(block, State::kFree);
}

void TorchAllocator::empty_cache() {
  for (BestFit& pool : free_) {
    const std::vector<BestFit::value_type> cached(pool.begin(), pool.end());
    for (const auto& [bytes, address] : cached) {
      if (expandable()) {
        unmap_pages(address);
        continue;
      }
      const auto block = blocks_.find(address);
      const bool split = (block != blocks_.begin() && joined(std::prev(block), block)) ||
                         joined(block, std::next(block));
      if (split) continue;
      stats_.reserved_bytes -= bytes;
      pool.erase({bytes, address});
      blocks_.erase(block);
    }
  }
}

std::size_t TorchAllocator::largest_free_block_bytes() const {
  std::size_t largest = 0;
  for (const BestFit& pool : free_) {
    if (!pool.empty()) largest = std::max(largest, pool.rbegin()->first);
  }
  return largest;
}

// Whether `b` follows `a` in one segment.
bool TorchAllocator::joined(Blocks::const_iterator a, Blocks::const_iterator b) const {
  return b != blocks_.end() && a->second.segment == b->second.segment;
}

// Bytes that a free block has or could have if what follows it were mapped.
std::size_t TorchAllocator::growth_bytes(Address address) const {
  const auto block = blocks_.find(address);
  const auto next = std::next(block);
  const bool grows = joined(block, next) && next->second.state == State::kUnmapped;
  return block->second.bytes + (grows ? next->second.bytes : 0);
}

// The smallest free block that is large enough; of equal ones that at the lowest address. A block
// at the end of an expandable segment counts as what it could grow to, so that it is kept for last.
std::optional<TorchAllocator::Address> TorchAllocator::best_fit(std::size_t bytes,
                                                                bool small) const {
  const BestFit& pool = free_[small];
  auto it = pool.lower_bound({bytes, 0});
  if (it == pool.end()) return std::nullopt;
  if (expandable()) {
    for (auto next = std::next(it);
         next != pool.end() && growth_bytes(next->second) < growth_bytes(it->second); ++next) {
      it = next;
    }
  }
  return it->second;
}

std::optional<TorchAllocator::Address> TorchAllocator::new_segment(std::size_t bytes, bool small) {
  const std::size_t segment_bytes = segment_bytes_for(bytes);
  if (segment_bytes > device_bytes_ - stats_.reserved_bytes) return std::nullopt;
  const Address address = next_segment_;
  next_segment_ += segment_bytes;
  blocks_[address] = {.bytes = segment_bytes, .segment = address, .small = small};
  free_[small].insert({segment_bytes, address});
  reserve(segment_bytes);
  return address;
}

// The block from which to grow by mapping what follows: the lowest unmapped one, or the free block
// before it, if there is address space enough up to the next live block.
std::optional<TorchAllocator::Address> TorchAllocator::room_to_grow(std::size_t bytes,
                                                                    bool small) const {
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    if (block->second.small != small || block->second.state != State::kUnmapped) continue;
    auto first = block;
    if (block != blocks_.begin() && joined(std::prev(block), block) &&
        std::prev(block)->second.state == State::kFree) {
      --first;
    }
    std::size_t room = 0;
    for (auto it = first; room < bytes && it->second.state != State::kLive; ++it) {
      room += it->second.bytes;
      if (!joined(it, std::next(it))) break;
    }
    if (room >= bytes) return first->first;
  }
  return std::nullopt;
}

std::optional<TorchAllocator::Address> TorchAllocator::grow_segment(std::size_t bytes, bool small) {
  std::optional<Address> room = room_to_grow(bytes, small);
  if (!room) {
    // Addresses for 9/8 of the device, so that pages unmapped in the middle may come back at the
    // end.
    const std::size_t span =
        round_up(std::max(device_bytes_ + device_bytes_ / 8, bytes), page_bytes(small));
    room = next_segment_;
    next_segment_ += span;
    blocks_[*room] = {.bytes = span, .segment = *room, .small = small, .state = State::kUnmapped};
  }
  if (blocks_.at(*room).state == State::kUnmapped) room = map_pages(*room, bytes);
  while (room && blocks_.at(*room).bytes < bytes) {
    const Block& block = blocks_.at(*room);
    room = map_pages(*room + block.bytes, bytes - block.bytes);
  }
  return room;
}

// Maps pages from the front of an unmapped block, at most all of it. Returns the free block that
// they are part of then; empty where the device has none left.
std::optional<TorchAllocator::Address> TorchAllocator::map_pages(Address address,
                                                                 std::size_t bytes) {
  const auto block = blocks_.find(address);
  const std::size_t available = block->second.bytes;
  const std::size_t mapped = std::min(round_up(bytes, page_bytes(block->second.small)), available);
  if (mapped > device_bytes_ - stats_.reserved_bytes) return std::nullopt;
  if (mapped < available) {
    Block rest = block->second;
    rest.bytes = available - mapped;
    blocks_[address + mapped] = rest;
    block->second.bytes = mapped;
  }
  reserve(mapped);
  return set_state(block, State::kFree);
}

// Gives back the whole pages in a free block.
void TorchAllocator::unmap_pages(Address address) {
  const auto block = blocks_.find(address);
  const Block whole = block->second;
  const std::size_t page = page_bytes(whole.small);
  const Address begin = whole.segment + round_up(address - whole.segment, page);
  const Address end = whole.segment + (address + whole.bytes - whole.segment) / page * page;
  if (begin >= end) return;

  BestFit& pool = free_[whole.small];
  pool.erase({whole.bytes, address});
  blocks_.erase(block);
  const auto put = [&](Address from, Address to, State state) {
    Block part = whole;
    part.bytes = to - from;
    part.state = state;
    if (state == State::kFree) pool.insert({part.bytes, from});
    return blocks_.emplace(from, part).first;
  };
  if (address < begin) put(address, begin, State::kFree);
  if (end < address + whole.bytes) put(end, address + whole.bytes, State::kFree);
  set_state(put(begin, end, State::kUnmapped), State::kUnmapped);
  stats_.reserved_bytes -= end - begin;
}

// A free block becomes live, and its rest a free block of its own if that is worth it.
void TorchAllocator::take(Address address, std::size_t requested, std::size_t bytes) {
  Block& block = blocks_.at(address);
  BestFit& pool = free_[block.small];
  pool.erase({block.bytes, address});
  const std::size_t rest_bytes = block.bytes - bytes;
  if (block.small || expandable() ? rest_bytes >= kUnit : rest_bytes > kLargeRest) {
    Block rest = block;
    rest.bytes = rest_bytes;
    blocks_[address + bytes] = rest;
    pool.insert({rest_bytes, address + bytes});
    block.bytes = bytes;
  }
  block.state = State::kLive;
  block.requested_bytes = requested;
  stats_.requested_bytes += requested;
  stats_.allocated_bytes += block.bytes;
  stats_.peak_requested_bytes = std::max(stats_.peak_requested_bytes, stats_.requested_bytes);
  stats_.peak_allocated_bytes = std::max(stats_.peak_allocated_bytes, stats_.allocated_bytes);
}

// `block` is no longer what it was, and merges with neighbours of its new state. Returns where the
// merged block begins.
TorchAllocator::Address TorchAllocator::set_state(Blocks::iterator block, State state) {
  block->second.state = state;
  BestFit& pool = free_[block->second.small];
  const auto merge = [&](Blocks::iterator first, Blocks::iterator second) {
    if (!joined(first, second) || first->second.state != second->second.state) return first;
    const auto other = first == block ? second : first;
    if (state == State::kFree) pool.erase({other->second.bytes, other->first});
    first->second.bytes += second->second.bytes;
    blocks_.erase(second);
    return first;
  };
  merge(block, std::next(block));
  if (block != blocks_.begin()) {
    const auto previous = std::prev(block);
    const bool same = joined(previous, block) && previous->second.state == state;
    merge(previous, block);
    if (same) block = previous;
  }
  if (state == State::kFree) pool.insert({block->second.bytes, block->first});
  return block->first;
}

void TorchAllocator::reserve(std::size_t bytes) {
  stats_.reserved_bytes += bytes;
  stats_.peak_reserved_bytes = std::max(stats_.peak_reserved_bytes, stats_.reserved_bytes);
}

}  // namespace gpt2train
