// Segments of host memory that a backend's kernels read and write, for what is kept off the device.
#pragma once

#include <map>
#include <memory>

#include "gpt2train/memory/upstream.h"
#include "gpt2train/ops/backend.h"

namespace gpt2train {

class PinnedUpstream final : public Upstream {
 public:
  explicit PinnedUpstream(const Backend& backend) : backend_(backend) {}

  [[nodiscard]] void* try_allocate(std::size_t bytes) override {
    std::shared_ptr<void> memory = backend_.host_memory(bytes);
    void* const address = memory.get();
    segments_.emplace(address, std::move(memory));
    return address;
  }
  void deallocate(void* pointer, std::size_t) noexcept override { segments_.erase(pointer); }

  // It does not grow.
  [[nodiscard]] void* reserve(std::size_t) override { return nullptr; }
  void unreserve(void*, std::size_t) noexcept override {}
  [[nodiscard]] bool commit(void*, std::size_t) override { return false; }
  void decommit(void*, std::size_t) noexcept override {}

 private:
  const Backend& backend_;
  std::map<void*, std::shared_ptr<void>> segments_;
};

}  // namespace gpt2train
