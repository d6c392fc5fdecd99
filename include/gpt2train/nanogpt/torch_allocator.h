// PyTorch's CUDA caching allocator, simulated: which requests a card could serve, and what is lost
// between tensors. One stream, default settings (no max_split_size, no rounding to powers of two).
// The rules are those of c10/cuda/CUDACachingAllocator.cpp, PyTorch 2.6.
//
// One liberty: where cudaMalloc puts a segment is the driver's affair. Here each lies behind those
// before it, so that among free blocks of one size the one in the oldest segment is taken.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace gpt2train {

// Classic: a segment is one cudaMalloc. Expandable: one segment a pool, which grows by pages (2 MiB
// for small requests, 20 MiB for others), PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True.
enum class TorchSegments : std::uint8_t { kClassic, kExpandable };
const char* name_of(TorchSegments segments);  // "classic", "expandable"

class TorchAllocator {
 public:
  using Address = std::uint64_t;

  struct Stats {
    std::size_t requested_bytes = 0;  // as asked for
    std::size_t allocated_bytes = 0;  // of live blocks: rounded, and what was not worth splitting
    std::size_t reserved_bytes = 0;   // taken from the device
    std::size_t peak_requested_bytes = 0;
    std::size_t peak_allocated_bytes = 0;
    std::size_t peak_reserved_bytes = 0;
    std::size_t retries = 0;  // times the cache was given back for want of memory
  };

  // `device_bytes`: what the device can give to this process's allocator in all.
  TorchAllocator(std::size_t device_bytes, TorchSegments segments);

  // `bytes` > 0. Empty where the device cannot serve it, even after the cache was given back.
  std::optional<Address> allocate(std::size_t bytes);
  // `address` as allocate returned it, once.
  void free(Address address);
  // Gives back what no live block lies in: whole segments, or of expandable ones whole pages.
  void empty_cache();

  // What a request would take from the device, where no free block serves it in classic segments.
  static std::size_t segment_bytes_for(std::size_t bytes);

  const Stats& stats() const { return stats_; }
  std::size_t largest_free_block_bytes() const;

  enum class State : std::uint8_t { kLive, kFree, kUnmapped };
  struct Block {
    std::size_t bytes = 0;
    Address segment = 0;  // its first address
    bool small = false;   // the pool
    State state = State::kFree;
    std::size_t requested_bytes = 0;  // of a live block
  };
  // All blocks in the order of addresses; those of a segment lie end to end.
  using Blocks = std::map<Address, Block>;
  const Blocks& blocks() const { return blocks_; }

 private:
  using BestFit = std::set<std::pair<std::size_t, Address>>;  // free blocks

  bool expandable() const { return segments_ == TorchSegments::kExpandable; }
  bool joined(Blocks::const_iterator a, Blocks::const_iterator b) const;
  std::optional<Address> best_fit(std::size_t bytes, bool small) const;
  std::size_t growth_bytes(Address address) const;
  std::optional<Address> new_segment(std::size_t bytes, bool small);
  std::optional<Address> grow_segment(std::size_t bytes, bool small);
  std::optional<Address> room_to_grow(std::size_t bytes, bool small) const;
  std::optional<Address> map_pages(Address address, std::size_t bytes);
  void unmap_pages(Address address);
  void take(Address address, std::size_t requested, std::size_t bytes);
  Address set_state(Blocks::iterator block, State state);
  void reserve(std::size_t bytes);

  std::size_t device_bytes_;
  TorchSegments segments_;
  Blocks blocks_;
  BestFit free_[2];  // of large requests, of small ones
  Address next_segment_ = 0;
  Stats stats_;
};

}  // namespace gpt2train
