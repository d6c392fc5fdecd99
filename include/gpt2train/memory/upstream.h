// Where segments come from. The one virtual interface on the allocation path; it is called once a
// segment, never once a tensor.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gpt2train {

class Upstream {
 public:
  virtual ~Upstream() = default;
  // Returns nullptr when the device has no room; throws only for real faults. The address is
  // aligned to 512 bytes.
  [[nodiscard]] virtual void* try_allocate(std::size_t bytes) = 0;
  virtual void deallocate(void* pointer, std::size_t bytes) noexcept = 0;

  // Segments that grow: addresses first, memory behind them later.
  // Addresses for up to `bytes`, aligned to 2 MiB and without memory; nullptr where the device has
  // no such thing.
  [[nodiscard]] virtual void* reserve(std::size_t bytes) = 0;
  virtual void unreserve(void* range, std::size_t bytes) noexcept = 0;
  // Memory behind [at, at + bytes), multiples of 2 MiB; false when the device has no room. What was
  // committed may be given back in other pieces.
  [[nodiscard]] virtual bool commit(void* at, std::size_t bytes) = 0;
  virtual void decommit(void* at, std::size_t bytes) noexcept = 0;

  // Whether the addresses are host memory, which a sanitizer can watch.
  virtual bool backed() const { return false; }
};

// Anonymous pages straight from the kernel, on huge pages where it grants them: a freed segment
// goes back at once, so resident memory follows the ledger.
class HostUpstream final : public Upstream {
 public:
  [[nodiscard]] void* try_allocate(std::size_t bytes) override;
  void deallocate(void* pointer, std::size_t bytes) noexcept override;
  [[nodiscard]] void* reserve(std::size_t bytes) override;
  void unreserve(void* range, std::size_t bytes) noexcept override;
  [[nodiscard]] bool commit(void* at, std::size_t bytes) override;
  void decommit(void* at, std::size_t bytes) noexcept override;
  bool backed() const override { return true; }
};

// Hands out addresses that are never dereferenced, so a run of the real training code through it
// measures memory without owning any.
class DryRunUpstream final : public Upstream {
 public:
  [[nodiscard]] void* try_allocate(std::size_t bytes) override;
  void deallocate(void* pointer, std::size_t bytes) noexcept override;
  [[nodiscard]] void* reserve(std::size_t bytes) override;
  void unreserve(void* range, std::size_t bytes) noexcept override;
  [[nodiscard]] bool commit(void* at, std::size_t bytes) override;
  void decommit(void* at, std::size_t bytes) noexcept override;

 private:
  std::uintptr_t next_ = std::uintptr_t{1} << 40;
};

}  // namespace gpt2train
