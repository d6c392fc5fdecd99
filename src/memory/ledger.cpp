// What the allocator books and tells: the ledger, its peaks, events and errors. allocator.cpp has
// the decisions.
#include <algorithm>
#include <tuple>
#include <utility>

#include "gpt2train/memory/allocator.h"
#include "src/memory/blocks.h"

namespace gpt2train {
namespace {

constexpr std::size_t kLargestAtPeak = 8;

std::size_t index_of(Tag tag) {
  return static_cast<std::size_t>(tag);
}

std::size_t index_of(Phase phase) {
  return static_cast<std::size_t>(phase);
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

void CachingAllocator::reserve_more(const void* address, std::uint64_t position,
                                    std::size_t bytes) {
  ++segment_generation_;
  ++counts_.segments_taken;
  stats_.reserved_bytes += bytes;
  stats_.peak_reserved_bytes = std::max(stats_.peak_reserved_bytes, stats_.reserved_bytes);
  if (!observer_) return;
  notify({.action = MemoryAction::kTakeSegment,
          .address = address,
          .position = position,
          .bytes = bytes});
}

void CachingAllocator::reserve_less(const void* address, std::uint64_t position,
                                    std::size_t bytes) {
  ++counts_.segments_returned;
  stats_.reserved_bytes -= bytes;
  if (!observer_) return;
  notify({.action = MemoryAction::kReturnSegment,
          .address = address,
          .position = position,
          .bytes = bytes});
}

void CachingAllocator::book(const Block& block) {
  ++counts_.allocations;
  counts_.allocated_bytes += block.bytes;
  stats_.allocated_bytes += block.bytes;
  stats_.by_tag[index_of(block.tag)] += block.bytes;
  std::size_t& phase_peak = stats_.peak_by_phase[index_of(phase_)];
  phase_peak = std::max(phase_peak, stats_.allocated_bytes);
  book_peak();
  if (observer_) notify(MemoryAction::kAllocate, block);
}

void CachingAllocator::unbook(const Block& block) {
  ++counts_.frees;
  stats_.allocated_bytes -= block.bytes;
  stats_.by_tag[index_of(block.tag)] -= block.bytes;
  if (observer_) notify(MemoryAction::kFree, block);
}

void CachingAllocator::book_peak() {
  if (stats_.allocated_bytes <= stats_.peak_allocated_bytes) return;
  stats_.peak_allocated_bytes = stats_.allocated_bytes;
  stats_.by_tag_at_peak = stats_.by_tag;
  stats_.peak_phase = phase_;
  write_scope_path(scopes_, stats_.peak_scope);
  peak_is_new_ = true;
}

// A model has hundreds of live blocks and tens of names among them, so a search by name is a scan.
void CachingAllocator::list_peak() {
  peak_is_new_ = false;
  std::vector<TensorBytes>& list = stats_.largest_at_peak;
  list.clear();
  state_->live.for_each([&](const Block& block) {
    const auto same = [&](const TensorBytes& entry) {
      return entry.tag == block.tag && entry.tensor == block.tensor;
    };
    auto it = std::find_if(list.begin(), list.end(), same);
    if (it == list.end()) it = list.insert(it, {.tensor = block.tensor, .tag = block.tag});
    ++it->count;
    it->bytes += block.bytes;
  });
  std::sort(list.begin(), list.end(), [](const TensorBytes& a, const TensorBytes& b) {
    return std::tie(b.bytes, a.tag, a.tensor) < std::tie(a.bytes, b.tag, b.tensor);
  });
  if (list.size() > kLargestAtPeak) list.resize(kLargestAtPeak);
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
  peak_is_new_ = true;
}

std::string CachingAllocator::scope_path() const {
  std::string path;
  write_scope_path(scopes_, path);
  return path;
}

OutOfMemoryError CachingAllocator::out_of_memory(std::size_t bytes, const BlockLabel& label) const {
  if (observer_) {
    notify({.action = MemoryAction::kOutOfMemory,
            .bytes = bytes,
            .tag = label.tag,
            .tensor = label.tensor});
  }
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

// Adds where and when it happened.
void CachingAllocator::notify(MemoryEvent event) const {
  const std::string scope = scope_path();
  event.scope = scope;
  event.phase = phase_;
  event.allocated_bytes = stats_.allocated_bytes;
  event.reserved_bytes = stats_.reserved_bytes;
  observer_(event);
}

void CachingAllocator::notify(MemoryAction action, const Block& block) const {
  notify({.action = action,
          .address = block.address,
          .position = block.position,
          .bytes = block.bytes,
          .tag = block.tag,
          .tensor = block.tensor});
}

PhaseScope::PhaseScope(CachingAllocator& allocator, Phase phase)
    : allocator_(allocator), before_(std::exchange(allocator.phase_, phase)) {
  // What is in use when a phase begins belongs to its peak, whether it allocates or not.
  std::size_t& peak = allocator.stats_.peak_by_phase[index_of(phase)];
  peak = std::max(peak, allocator.stats_.allocated_bytes);
}

}  // namespace gpt2train
