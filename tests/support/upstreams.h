// Upstreams for tests of the allocator: one that counts, one that hands out addresses downwards.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt2train/memory/allocator.h"
#include "gpt2train/memory/upstream.h"

namespace gpt2train::test {

// Dry, with a limit of its own and a record of what it was asked for.
class CountingUpstream final : public Upstream {
 public:
  explicit CountingUpstream(std::size_t limit_bytes = CachingAllocator::kNoBudget)
      : limit_bytes_(limit_bytes) {}
  void* try_allocate(std::size_t bytes) override {
    asked.push_back(bytes);
    if (held_bytes + bytes > limit_bytes_) return nullptr;
    held_bytes += bytes;
    return addresses_.try_allocate(bytes);
  }
  void deallocate(void* pointer, std::size_t bytes) noexcept override {
    held_bytes -= bytes;
    addresses_.deallocate(pointer, bytes);
  }
  void* reserve(std::size_t bytes) override { return addresses_.reserve(bytes); }
  void unreserve(void*, std::size_t) noexcept override {}
  bool commit(void*, std::size_t bytes) override {
    asked.push_back(bytes);
    if (held_bytes + bytes > limit_bytes_) return false;
    held_bytes += bytes;
    return true;
  }
  void decommit(void*, std::size_t bytes) noexcept override { held_bytes -= bytes; }

  std::vector<std::size_t> asked;
  std::size_t held_bytes = 0;

 private:
  std::size_t limit_bytes_;
  DryRunUpstream addresses_;
};

// The same requests in reverse order of address: nothing may depend on it.
class DescendingUpstream final : public Upstream {
 public:
  void* try_allocate(std::size_t bytes) override {
    next_ -= bytes;
    return reinterpret_cast<void*>(next_);
  }
  void deallocate(void*, std::size_t) noexcept override {}
  void* reserve(std::size_t bytes) override { return try_allocate(bytes); }
  void unreserve(void*, std::size_t) noexcept override {}
  bool commit(void*, std::size_t) override { return true; }
  void decommit(void*, std::size_t) noexcept override {}

 private:
  std::uintptr_t next_ = std::uintptr_t{1} << 46;
};

}  // namespace gpt2train::test
