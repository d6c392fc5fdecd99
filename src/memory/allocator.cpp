#include "gpt2train/memory/allocator.h"

#include <algorithm>
#include <utility>

#include "gpt2train/core/units.h"
#include "src/memory/blocks.h"

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(begin, bytes) static_cast<void>(begin), static_cast<void>(bytes)
#define ASAN_UNPOISON_MEMORY_REGION(begin, bytes) static_cast<void>(begin), static_cast<void>(bytes)
#endif

namespace gpt2train {
namespace {

constexpr std::size_t kSmallRequest = kMiB;  // up to here from small segments
constexpr std::size_t kSmallSegment = 2 * kMiB;
constexpr std::size_t kMediumRequest = 10 * kMiB;  // up to here from medium segments
constexpr std::size_t kMediumSegment = 20 * kMiB;
constexpr std::size_t kLargeStep = 2 * kMiB;         // larger segments are multiples of this
constexpr std::size_t kMostAddresses = 1024 * kGiB;  // of an expandable segment

// Saturates, so that an absurd request is refused and does not wrap to a small one.
constexpr std::size_t round_up(std::size_t bytes, std::size_t step) {
  const std::size_t largest = std::numeric_limits<std::size_t>::max() / step * step;
  return bytes > largest ? largest : (bytes + step - 1) / step * step;
}

bool is_small(std::size_t bytes) {
  return bytes <= kSmallRequest;
}

std::size_t segment_bytes_for(std::size_t bytes) {
  if (is_small(bytes)) return kSmallSegment;
  if (bytes <= kMediumRequest) return kMediumSegment;
  return round_up(bytes, kLargeStep);
}

// A freed tensor that somebody still reads is caught where the sanitizer watches.
void forbid_access(const Upstream& upstream, void* begin, std::size_t bytes) {
  if (upstream.backed()) ASAN_POISON_MEMORY_REGION(begin, bytes);
}

void allow_access(const Upstream& upstream, void* begin, std::size_t bytes) {
  if (upstream.backed()) ASAN_UNPOISON_MEMORY_REGION(begin, bytes);
}

void give_back(Upstream& upstream, void* base, std::size_t bytes) {
  allow_access(upstream, base, bytes);  // the next owner of these addresses may be anybody
  upstream.deallocate(base, bytes);
}

}  // namespace

CachingAllocator::CachingAllocator(Upstream& upstream, std::size_t budget_bytes, Segments segments)
    : upstream_(upstream),
      budget_bytes_(budget_bytes),
      segments_(segments),
      state_(std::make_unique<State>()) {}

CachingAllocator::~CachingAllocator() {
  for (const Segment& segment : state_->segments) {
    if (segment.address_bytes == 0) {
      give_back(upstream_, segment.base, segment.bytes);
    } else {
      allow_access(upstream_, segment.base, segment.bytes);
      upstream_.decommit(segment.base, segment.bytes);
      upstream_.unreserve(segment.base, segment.address_bytes);
    }
  }
}

void* CachingAllocator::allocate(std::size_t bytes, const BlockLabel& label) {
  ++request_count_;
  const std::size_t rounded = round_up(std::max<std::size_t>(bytes, 1), kAlignment);
  Block* block = find_room(rounded);
  if (block == nullptr) throw out_of_memory(rounded, label);
  split(block, rounded);
  block->free = false;
  block->tag = label.tag;
  block->tensor = label.tensor;
  state_->live.insert(block);
  // No more than was asked for, so that a write into the slack of the rounding is caught as well.
  allow_access(upstream_, block->address, bytes);
  book(*block);
  return block->address;
}

void CachingAllocator::deallocate(void* pointer) noexcept {
  if (peak_is_new_) list_peak();
  Block* block = state_->live.take(pointer);
  GPT2_CHECK(block != nullptr, "freed a pointer that is not of a live block");
  forbid_access(upstream_, block->address, block->bytes);
  unbook(*block);

  State::FreeList& list = state_->free_list(block->segment->small);
  if (block->next != nullptr && block->next->free) {
    list.erase(block->next);
    state_->absorb_next(block);
  }
  if (block->previous != nullptr && block->previous->free) {
    block = block->previous;
    list.erase(block);
    state_->absorb_next(block);
  }
  block->free = true;
  list.insert(block);
}

std::size_t CachingAllocator::release_cached() noexcept {
  std::size_t released = 0;
  for (auto segment = state_->segments.begin(); segment != state_->segments.end();) {
    if (segment->address_bytes > 0) {
      released += trim(*segment);
      ++segment;
      continue;
    }
    Block* block = segment->first;
    if (!block->free || block->bytes != segment->bytes) {
      ++segment;
      continue;
    }
    state_->free_list(segment->small).erase(block);
    state_->recycle(block);
    give_back(upstream_, segment->base, segment->bytes);
    reserve_less(segment->base, segment->position, segment->bytes);
    released += segment->bytes;
    segment = state_->segments.erase(segment);
  }
  if (released > 0) ++segment_generation_;
  return released;
}

// A block of at least `bytes`, in no list, or nullptr.
CachingAllocator::Block* CachingAllocator::find_room(std::size_t bytes) {
  const bool small = is_small(bytes);
  const std::size_t slab_bytes = segment_bytes_for(bytes);
  const bool expandable = segments_ == Segments::kExpandable;
  const bool device_full = fail_countdown_ > 0 && --fail_countdown_ == 0;
  if (!device_full) {
    if (Block* block = state_->free_list(small).take(bytes)) return block;
    if (Block* block = expandable ? grow(bytes, small) : take_segment(slab_bytes, small)) {
      return block;
    }
  }
  const bool released = release_cached() > 0;
  if (released) ++stats_.cache_releases;
  if (device_full) return nullptr;
  if (expandable) return released ? grow(bytes, small) : nullptr;
  if (released) {
    if (Block* block = take_segment(slab_bytes, small)) return block;
  }
  // Where no slab fits, the request alone may.
  const std::size_t own_bytes = round_up(bytes, kLargeStep);
  return own_bytes < slab_bytes ? take_segment(own_bytes, small) : nullptr;
}

// A new segment as one block in no list, or nullptr where budget or device have no room.
CachingAllocator::Block* CachingAllocator::take_segment(std::size_t segment_bytes, bool small) {
  if (!within_budget(segment_bytes)) return nullptr;
  auto* base = static_cast<char*>(upstream_.try_allocate(segment_bytes));
  if (base == nullptr) return nullptr;
  forbid_access(upstream_, base, segment_bytes);
  Block* block = state_->new_block();
  state_->segments.push_back({.base = base,
                              .bytes = segment_bytes,
                              .position = state_->next_position,
                              .small = small,
                              .first = block,
                              .last = block});
  state_->next_position += segment_bytes;
  block->segment = &state_->segments.back();
  block->previous = block->next = nullptr;
  block->address = base;
  block->position = block->segment->position;
  block->bytes = segment_bytes;
  reserve_more(base, block->position, segment_bytes);
  return block;
}

// The free end of an expandable segment, made as large as the request; in no list. nullptr where
// budget or device have no room.
CachingAllocator::Block* CachingAllocator::grow(std::size_t bytes, bool small) {
  Segment*& segment = state_->expandable[small ? 0 : 1];
  if (segment == nullptr) {
    const std::size_t range = round_up(std::min(budget_bytes_, kMostAddresses), kLargeStep);
    auto* base = static_cast<char*>(upstream_.reserve(range));
    if (base == nullptr) {
      throw DeviceError("the device has no expandable segments; set memory.segments: fixed");
    }
    state_->segments.push_back(
        {.base = base, .address_bytes = range, .position = state_->next_position, .small = small});
    state_->next_position += range;
    segment = &state_->segments.back();
  }
  Block* end = segment->last;
  const bool end_is_free = end != nullptr && end->free;
  const std::size_t more = round_up(bytes - (end_is_free ? end->bytes : 0), kLargeStep);
  char* const from = segment->base + segment->bytes;
  if (!within_budget(more) || more > segment->address_bytes - segment->bytes ||
      !upstream_.commit(from, more)) {
    return nullptr;
  }
  forbid_access(upstream_, from, more);
  if (end_is_free) {
    state_->free_list(small).erase(end);
    end->bytes += more;
  } else {
    Block* block = state_->new_block();
    block->segment = segment;
    block->previous = end;
    block->next = nullptr;
    block->address = from;
    block->position = segment->position + segment->bytes;
    block->bytes = more;
    (end != nullptr ? end->next : segment->first) = block;
    segment->last = end = block;
  }
  reserve_more(from, segment->position + segment->bytes, more);
  segment->bytes += more;
  return end;
}

// Gives the whole steps of a free end back; returns their bytes.
std::size_t CachingAllocator::trim(Segment& segment) {
  Block* end = segment.last;
  if (end == nullptr || !end->free) return 0;
  const auto begin = static_cast<std::size_t>(end->address - segment.base);
  const std::size_t kept = round_up(begin, kLargeStep);
  const std::size_t released = segment.bytes - std::min(kept, segment.bytes);
  if (released == 0) return 0;
  State::FreeList& list = state_->free_list(segment.small);
  list.erase(end);
  end->bytes -= released;
  if (end->bytes > 0) {
    list.insert(end);
  } else {
    segment.last = end->previous;
    (segment.last != nullptr ? segment.last->next : segment.first) = nullptr;
    state_->recycle(end);
  }
  segment.bytes = kept;
  allow_access(upstream_, segment.base + kept, released);
  upstream_.decommit(segment.base + kept, released);
  reserve_less(segment.base + kept, segment.position + kept, released);
  return released;
}

bool CachingAllocator::within_budget(std::size_t more_bytes) const {
  return more_bytes <= budget_bytes_ && stats_.reserved_bytes <= budget_bytes_ - more_bytes;
}

// Makes what the request leaves over a free block of its own, where that is worth it.
void CachingAllocator::split(Block* block, std::size_t bytes) {
  const std::size_t rest = block->bytes - bytes;
  const bool small = block->segment->small;
  if (small ? rest < kAlignment : rest <= kSmallRequest) return;
  Block* tail = state_->new_block();
  tail->segment = block->segment;
  tail->previous = block;
  tail->next = block->next;
  tail->address = block->address + bytes;
  tail->position = block->position + bytes;
  tail->bytes = rest;
  tail->free = true;
  (tail->next != nullptr ? tail->next->previous : block->segment->last) = tail;
  block->next = tail;
  block->bytes = bytes;
  state_->free_list(small).insert(tail);
}

std::size_t CachingAllocator::live_block_count() const {
  return state_->live.size();
}

std::size_t CachingAllocator::largest_free_block_bytes() const {
  return std::max(state_->free_small.largest_bytes(), state_->free_large.largest_bytes());
}

}  // namespace gpt2train
