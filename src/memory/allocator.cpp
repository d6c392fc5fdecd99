// The blocks of a segment are a list in address order; free ones also stand in a list sorted by
// (size, position), so best fit is one search and reads no address.
#include "gpt2train/memory/allocator.h"

#include <algorithm>
#include <deque>
#include <list>
#include <utility>

#include "gpt2train/core/units.h"

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
constexpr std::size_t kLargeStep = 2 * kMiB;  // larger segments are multiples of this

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

std::size_t index_of(Tag tag) {
  return static_cast<std::size_t>(tag);
}

std::size_t index_of(Phase phase) {
  return static_cast<std::size_t>(phase);
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

// Replaces `path`, whose memory is reused: a first step raises the peak with nearly every request.
void write_scope_path(const std::vector<std::string>& scopes, std::string& path) {
  path.clear();
  for (const std::string& scope : scopes) {
    if (!path.empty()) path += '/';
    path += scope;
  }
  if (path.empty()) path = "(no scope)";
}

}  // namespace

const char* name_of(Tag tag) {
  constexpr const char* kNames[kTagCount] = {"weights",   "master_weights", "gradients",
                                             "optimizer", "activations",    "logits",
                                             "workspace", "staging"};
  return kNames[index_of(tag)];
}

const char* name_of(Phase phase) {
  constexpr const char* kNames[kPhaseCount] = {"setup", "training", "evaluation", "checkpoint",
                                               "sampling"};
  return kNames[index_of(phase)];
}

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
  std::size_t bytes = 0;
  bool small = false;
  Block* first = nullptr;
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
    if (block->next != nullptr) block->next->previous = block;
    recycle(next);
  }

  std::list<Segment> segments;  // oldest first
  std::uint64_t next_position = 0;
  FreeList free_small, free_large;
  AddressTable live;
  std::deque<Block> blocks;  // all that ever were; those of no segment are on the spare list
  Block* spare = nullptr;
};

CachingAllocator::CachingAllocator(Upstream& upstream, std::size_t budget_bytes)
    : upstream_(upstream), budget_bytes_(budget_bytes), state_(std::make_unique<State>()) {}

CachingAllocator::~CachingAllocator() {
  for (const Segment& segment : state_->segments) give_back(upstream_, segment.base, segment.bytes);
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
  book(block->bytes, block->tag);
  if (observer_) notify(*block, false);
  return block->address;
}

void CachingAllocator::deallocate(void* pointer) noexcept {
  Block* block = state_->live.take(pointer);
  GPT2_CHECK(block != nullptr, "freed a pointer that is not of a live block");
  forbid_access(upstream_, block->address, block->bytes);
  stats_.allocated_bytes -= block->bytes;
  stats_.by_tag[index_of(block->tag)] -= block->bytes;
  if (observer_) notify(*block, true);

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
    Block* block = segment->first;
    if (!block->free || block->bytes != segment->bytes) {
      ++segment;
      continue;
    }
    state_->free_list(segment->small).erase(block);
    state_->recycle(block);
    give_back(upstream_, segment->base, segment->bytes);
    released += segment->bytes;
    segment = state_->segments.erase(segment);
  }
  stats_.reserved_bytes -= released;
  if (released > 0) ++segment_generation_;
  return released;
}

// A block of at least `bytes`, in no list, or nullptr.
CachingAllocator::Block* CachingAllocator::find_room(std::size_t bytes) {
  const bool small = is_small(bytes);
  const std::size_t slab_bytes = segment_bytes_for(bytes);
  const bool device_full = fail_countdown_ > 0 && --fail_countdown_ == 0;
  if (!device_full) {
    if (Block* block = state_->free_list(small).take(bytes)) return block;
    if (Block* block = take_segment(slab_bytes, small)) return block;
  }
  const bool released = release_cached() > 0;
  if (released) ++stats_.cache_releases;
  if (device_full) return nullptr;
  if (released) {
    if (Block* block = take_segment(slab_bytes, small)) return block;
  }
  // Where no slab fits, the request alone may.
  const std::size_t own_bytes = round_up(bytes, kLargeStep);
  return own_bytes < slab_bytes ? take_segment(own_bytes, small) : nullptr;
}

// A new segment as one block in no list, or nullptr where budget or device have no room.
CachingAllocator::Block* CachingAllocator::take_segment(std::size_t segment_bytes, bool small) {
  if (segment_bytes > budget_bytes_ || stats_.reserved_bytes > budget_bytes_ - segment_bytes) {
    return nullptr;
  }
  auto* base = static_cast<char*>(upstream_.try_allocate(segment_bytes));
  if (base == nullptr) return nullptr;
  forbid_access(upstream_, base, segment_bytes);
  Block* block = state_->new_block();
  state_->segments.push_back(
      {.base = base, .bytes = segment_bytes, .small = small, .first = block});
  block->segment = &state_->segments.back();
  block->previous = block->next = nullptr;
  block->address = base;
  block->position = std::exchange(state_->next_position, state_->next_position + segment_bytes);
  block->bytes = segment_bytes;
  ++segment_generation_;
  stats_.reserved_bytes += segment_bytes;
  stats_.peak_reserved_bytes = std::max(stats_.peak_reserved_bytes, stats_.reserved_bytes);
  return block;
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
  if (tail->next != nullptr) tail->next->previous = tail;
  block->next = tail;
  block->bytes = bytes;
  state_->free_list(small).insert(tail);
}

void CachingAllocator::book(std::size_t bytes, Tag tag) {
  stats_.allocated_bytes += bytes;
  stats_.by_tag[index_of(tag)] += bytes;
  std::size_t& phase_peak = stats_.peak_by_phase[index_of(phase_)];
  phase_peak = std::max(phase_peak, stats_.allocated_bytes);
  if (stats_.allocated_bytes <= stats_.peak_allocated_bytes) return;
  stats_.peak_allocated_bytes = stats_.allocated_bytes;
  stats_.by_tag_at_peak = stats_.by_tag;
  stats_.peak_phase = phase_;
  write_scope_path(scopes_, stats_.peak_scope);
}

void CachingAllocator::reset_peaks() {
  stats_.peak_allocated_bytes = stats_.allocated_bytes;
  stats_.peak_reserved_bytes = stats_.reserved_bytes;
  stats_.by_tag_at_peak = stats_.by_tag;
  stats_.peak_phase = phase_;
  write_scope_path(scopes_, stats_.peak_scope);
  stats_.peak_by_phase = {};
  stats_.peak_by_phase[index_of(phase_)] = stats_.allocated_bytes;
  stats_.cache_releases = 0;
}

std::size_t CachingAllocator::live_block_count() const {
  return state_->live.size();
}

std::size_t CachingAllocator::largest_free_block_bytes() const {
  return std::max(state_->free_small.largest_bytes(), state_->free_large.largest_bytes());
}

std::string CachingAllocator::scope_path() const {
  std::string path;
  write_scope_path(scopes_, path);
  return path;
}

OutOfMemoryError CachingAllocator::out_of_memory(std::size_t bytes, const BlockLabel& label) const {
  const bool shaped = label.shape.rank() > 0;
  return OutOfMemoryError({.requested_bytes = bytes,
                           .in_use_bytes = stats_.allocated_bytes,
                           .cached_bytes = stats_.reserved_bytes - stats_.allocated_bytes,
                           .largest_free_block_bytes = largest_free_block_bytes(),
                           .budget_bytes = budget_bytes_,
                           .tensor = std::string(label.tensor),
                           .shape = shaped ? concat(label.shape) : "",
                           .dtype = shaped ? name_of(label.dtype) : "",
                           .scope = scope_path()});
}

void CachingAllocator::set_observer(std::function<void(const MemoryEvent&)> observer) {
  observer_ = std::move(observer);
}

void CachingAllocator::notify(const Block& block, bool is_free) const {
  const std::string scope = scope_path();
  observer_({.is_free = is_free,
             .address = block.address,
             .position = block.position,
             .bytes = block.bytes,
             .tag = block.tag,
             .tensor = block.tensor,
             .scope = scope,
             .allocated_bytes = stats_.allocated_bytes,
             .reserved_bytes = stats_.reserved_bytes});
}

PhaseScope::PhaseScope(CachingAllocator& allocator, Phase phase)
    : allocator_(allocator), before_(std::exchange(allocator.phase_, phase)) {
  // What is in use when a phase begins belongs to its peak, whether it allocates or not.
  std::size_t& peak = allocator.stats_.peak_by_phase[index_of(phase)];
  peak = std::max(peak, allocator.stats_.allocated_bytes);
}

}  // namespace gpt2train
