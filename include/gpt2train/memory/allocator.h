// Caching allocator with a byte budget, a ledger by category and named scopes.
// Single-threaded and single-stream: a freed block is reusable at once, in stream order. Its
// decisions never read an address it was handed, only the order of requests: that is why a dry run
// predicts a real one to the byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/tensor_view.h"
#include "gpt2train/memory/upstream.h"

namespace gpt2train {

enum class Tag : std::uint8_t {
  kWeights,
  kMasterWeights,
  kGradients,
  kOptimizer,
  kActivations,
  kLogits,
  kWorkspace,
  kStaging,
};
inline constexpr std::size_t kTagCount = 8;
const char* name_of(Tag tag);  // "weights", "master_weights", ...

// Which part of a run is under way; peaks are kept for each.
enum class Phase : std::uint8_t { kSetup, kTraining, kEvaluation, kCheckpoint, kSampling };
inline constexpr std::size_t kPhaseCount = 5;
const char* name_of(Phase phase);

// What a block is for, as the ledger, the trace and the error text name it.
struct BlockLabel {
  Tag tag = Tag::kWorkspace;
  std::string_view tensor = {};  // "qkv"
  Shape shape = {};              // rank 0: plain scratch, no shape to tell
  DType dtype = DType::kFloat32;
};

// Bytes by category at one instant.
using TagBytes = std::array<std::size_t, kTagCount>;

// The live blocks of one name, together.
struct TensorBytes {
  std::string tensor = {};
  Tag tag = Tag::kWorkspace;
  std::uint64_t count = 0;
  std::size_t bytes = 0;

  bool operator==(const TensorBytes&) const = default;
};

struct MemoryStats {
  std::size_t allocated_bytes = 0;  // live blocks, rounded
  std::size_t peak_allocated_bytes = 0;
  std::size_t reserved_bytes = 0;  // segments held from the upstream
  std::size_t peak_reserved_bytes = 0;
  TagBytes by_tag = {};
  TagBytes by_tag_at_peak = {};  // at the instant of peak_allocated_bytes; sums to it
  Phase peak_phase = Phase::kSetup;
  std::string peak_scope = {};  // the scope whose request made the peak
  // What was alive at the peak, largest first. Filled in by the first free after it: no request can
  // come between that leaves the peak where it was, so a peak is listed once and not as it climbs.
  std::vector<TensorBytes> largest_at_peak = {};
  std::array<std::size_t, kPhaseCount> peak_by_phase = {};  // peak_allocated_bytes of each phase
  std::uint64_t cache_releases = 0;  // times the cache was given back to make room

  bool operator==(const MemoryStats&) const = default;
};

// What happened since the allocator was made. Of a run only: a dry run leaves out what repeats.
struct MemoryCounts {
  std::uint64_t allocations = 0;  // that succeeded
  std::uint64_t frees = 0;
  std::size_t allocated_bytes = 0;      // of all allocations together
  std::uint64_t segments_taken = 0;     // from the upstream, or times that one grew
  std::uint64_t segments_returned = 0;  // to it, or times that one shrank
};

enum class MemoryAction : std::uint8_t {
  kAllocate,
  kFree,
  kTakeSegment,    // from the upstream; an expandable segment: what it grew by
  kReturnSegment,  // to the upstream; an expandable segment: what it shrank by
  kOutOfMemory,    // a request was refused; the exception follows
};

struct MemoryEvent {
  MemoryAction action = MemoryAction::kAllocate;
  const void* address = nullptr;  // nullptr of what was refused
  // Bytes from the first byte of the first segment ever taken, as if all of them lay end to end:
  // equal in two runs that make the same requests, where addresses differ.
  std::uint64_t position = 0;
  std::size_t bytes = 0;  // rounded
  Tag tag = Tag::kWorkspace;
  std::string_view tensor = {};  // empty of a segment
  std::string_view scope = {};
  Phase phase = Phase::kSetup;
  std::size_t allocated_bytes = 0;  // after the event
  std::size_t reserved_bytes = 0;
};

// Fixed segments stay as they were taken. Expandable ones are two, for small requests and for
// others, and grow at their end: less is lost between blocks, and a freed end goes back alone.
enum class Segments : std::uint8_t { kFixed, kExpandable };

class CachingAllocator {
 public:
  static constexpr std::size_t kAlignment = 512;
  static constexpr std::size_t kNoBudget = std::numeric_limits<std::size_t>::max();

  // Reserved bytes never exceed `budget_bytes`.
  CachingAllocator(Upstream& upstream, std::size_t budget_bytes,
                   Segments segments = Segments::kFixed);
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // Throws OutOfMemoryError after releasing the cache and trying once more; a failed request leaves
  // no trace. Zero bytes take one alignment unit. Contents are indeterminate.
  [[nodiscard]] void* allocate(std::size_t bytes, const BlockLabel& label);
  // A pointer that is not of a live block is a bug that would corrupt tensors: the program ends.
  void deallocate(void* pointer) noexcept;

  // Gives every wholly free segment back, and the free ends of expandable ones; returns their
  // bytes.
  std::size_t release_cached() noexcept;

  const MemoryStats& stats() const { return stats_; }
  const MemoryCounts& counts() const { return counts_; }
  Segments segments() const { return segments_; }
  std::size_t budget_bytes() const { return budget_bytes_; }
  void set_budget(std::size_t budget_bytes) { budget_bytes_ = budget_bytes; }
  std::size_t live_block_count() const;
  std::size_t largest_free_block_bytes() const;
  std::string scope_path() const;  // "step 12/micro 3/block 7", or "(no scope)"

  // Peaks restart from what is in use and reserved now, and cache_releases from zero.
  void reset_peaks();

  // Changes exactly when memory was taken from or given back to the upstream. Work that starts
  // and ends with the same blocks live and leaves it unchanged will never need more when repeated.
  std::uint64_t segment_generation() const { return segment_generation_; }

  // For tests of recovery: the request `countdown` requests from now (0: the next) fails as if the
  // device were full.
  void fail_request_after(std::uint64_t countdown) { fail_countdown_ = countdown + 1; }
  std::uint64_t request_count() const { return request_count_; }

  // Called after every MemoryAction, and must not throw; an empty function detaches.
  void set_observer(std::function<void(const MemoryEvent&)> observer);
  bool observed() const { return observer_ != nullptr; }

 private:
  friend class AllocScope;
  friend class PhaseScope;

  // Definitions in allocator.cpp: the blocks of each segment, the free ones, the live ones.
  struct Block;
  struct Segment;
  struct State;

  Block* find_room(std::size_t bytes);
  Block* take_segment(std::size_t segment_bytes, bool small);
  Block* grow(std::size_t bytes, bool small);
  std::size_t trim(Segment& segment);
  bool within_budget(std::size_t more_bytes) const;
  void reserve_more(const void* address, std::uint64_t position, std::size_t bytes);
  void reserve_less(const void* address, std::uint64_t position, std::size_t bytes);
  void split(Block* block, std::size_t bytes);
  void book(const Block& block);
  void unbook(const Block& block);
  void book_peak();
  void list_peak();
  void notify(MemoryEvent event) const;
  void notify(MemoryAction action, const Block& block) const;
  OutOfMemoryError out_of_memory(std::size_t bytes, const BlockLabel& label) const;

  Upstream& upstream_;
  std::size_t budget_bytes_;
  const Segments segments_;
  MemoryStats stats_;
  MemoryCounts counts_;
  bool peak_is_new_ = true;  // and largest_at_peak is of an earlier one
  std::uint64_t segment_generation_ = 0;
  std::uint64_t request_count_ = 0;
  std::uint64_t fail_countdown_ = 0;  // 0: off
  Phase phase_ = Phase::kSetup;
  std::vector<std::string> scopes_;
  std::function<void(const MemoryEvent&)> observer_;
  std::unique_ptr<State> state_;
};

// Names the code that allocates, so an out-of-memory message says where it happened.
class [[nodiscard]] AllocScope {
 public:
  AllocScope(CachingAllocator& allocator, std::string name) : allocator_(allocator) {
    allocator_.scopes_.push_back(std::move(name));
  }
  ~AllocScope() { allocator_.scopes_.pop_back(); }
  AllocScope(const AllocScope&) = delete;
  AllocScope& operator=(const AllocScope&) = delete;

  const std::string& name() const { return allocator_.scopes_.back(); }  // while it is innermost

 private:
  CachingAllocator& allocator_;
};

// Sets the phase that peaks are booked under; restores the one before.
class [[nodiscard]] PhaseScope {
 public:
  PhaseScope(CachingAllocator& allocator, Phase phase);
  ~PhaseScope() { allocator_.phase_ = before_; }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  CachingAllocator& allocator_;
  Phase before_;
};

}  // namespace gpt2train
