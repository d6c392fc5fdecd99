#include "gpt2train/memory/upstream.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

// On x86-64 and most of ARM; elsewhere only a hint is lost.
constexpr std::size_t kHugePage = 2 * kMiB;

// More than any machine has. Far enough from wrapping that sizes can be rounded and added up.
constexpr std::uintptr_t kAddressSpace = std::uintptr_t{1} << 62;

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + kHugePage - 1) / kHugePage * kHugePage;
}

// Maps a huge page more than asked for, then gives back what lies outside the aligned part.
void* map_aligned(std::size_t bytes, int protection, int flags) {
  if (bytes > kAddressSpace) return nullptr;
  const std::size_t kept = whole_pages(bytes);
  void* mapped =
      mmap(nullptr, kept + kHugePage, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (mapped == MAP_FAILED) {
    if (errno == ENOMEM) return nullptr;
    throw DeviceError(concat("mapping ", human_bytes(bytes), " failed: ", std::strerror(errno)));
  }
  auto* const begin = static_cast<char*>(mapped);
  const std::size_t lead = whole_pages(reinterpret_cast<std::uintptr_t>(begin)) -
                           reinterpret_cast<std::uintptr_t>(begin);
  if (lead > 0) munmap(begin, lead);
  munmap(begin + lead + kept, kHugePage - lead);
  madvise(begin + lead, kept, MADV_HUGEPAGE);
  return begin + lead;
}

}  // namespace

void* HostUpstream::try_allocate(std::size_t bytes) {
  return map_aligned(bytes, PROT_READ | PROT_WRITE, 0);
}

void HostUpstream::deallocate(void* pointer, std::size_t bytes) noexcept {
  munmap(pointer, whole_pages(bytes));
}

void* HostUpstream::reserve(std::size_t bytes) {
  return map_aligned(bytes, PROT_NONE, MAP_NORESERVE);
}

void HostUpstream::unreserve(void* range, std::size_t bytes) noexcept {
  munmap(range, whole_pages(bytes));
}

bool HostUpstream::commit(void* at, std::size_t bytes) {
  return mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0;
}

void HostUpstream::decommit(void* at, std::size_t bytes) noexcept {
  madvise(at, bytes, MADV_DONTNEED);
  mprotect(at, bytes, PROT_NONE);
}

void* DryRunUpstream::try_allocate(std::size_t bytes) {
  if (bytes > kAddressSpace - next_) return nullptr;
  const std::uintptr_t address = next_;
  next_ += whole_pages(bytes);
  return reinterpret_cast<void*>(address);
}

void DryRunUpstream::deallocate(void*, std::size_t) noexcept {}

void* DryRunUpstream::reserve(std::size_t bytes) {
  return try_allocate(bytes);
}

void DryRunUpstream::unreserve(void*, std::size_t) noexcept {}

bool DryRunUpstream::commit(void*, std::size_t) {
  return true;
}

void DryRunUpstream::decommit(void*, std::size_t) noexcept {}

}  // namespace gpt2train
