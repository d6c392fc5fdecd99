// Device memory: fixed segments by cudaMalloc, which is slow and waits for the device, so the
// caching allocator above calls it once a segment; expandable ones by the driver's virtual-memory
// API, a physical piece of 2 MiB at a time.
#pragma once

#include <map>

#include "gpt2train/memory/upstream.h"

namespace gpt2train {

class CudaUpstream final : public Upstream {
 public:
  explicit CudaUpstream(int device) : device_(device) {}

  [[nodiscard]] void* try_allocate(std::size_t bytes) override;
  void deallocate(void* pointer, std::size_t bytes) noexcept override;
  [[nodiscard]] void* reserve(std::size_t bytes) override;
  void unreserve(void* range, std::size_t bytes) noexcept override;
  [[nodiscard]] bool commit(void* at, std::size_t bytes) override;
  void decommit(void* at, std::size_t bytes) noexcept override;

 private:
  bool commit_piece(std::uintptr_t at);

  int device_;
  std::map<std::uintptr_t, unsigned long long> pieces_;  // address to physical handle
};

}  // namespace gpt2train
