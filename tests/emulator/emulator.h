// A CUDA device on the CPU, for tests: what a kernel source sees instead of the toolkit's headers
// when it is compiled as host C++. Each thread of a block is a fiber; barriers and warp collectives
// switch between fibers in an order of choice. The scheduler (emulator.cpp) is compiled without
// sanitizers; kernels and this header are compiled with them, so that they see each load and store
// of a kernel. Wrong use of the device's rules ends the process with the place it happened at.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>
#include <vector>

// ---- keywords -----------------------------------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict

namespace gpt2train::emulator {

using Site = std::source_location;

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

// ---- what a test may choose ---------------------------------------------------------------------

// The order in which threads that may run do run, and blocks of a grid.
enum class Order : std::uint8_t { kForward, kReverse, kRandom };

struct Options {
  Order order = Order::kForward;
  std::uint64_t seed = 1;  // of kRandom
  int workers = 1;         // threads of the host that run blocks side by side
  // Copies land when they are waited for, and the target is poisoned until then; otherwise they
  // land when they are issued. A device may do either.
  bool late_copies = true;
  std::size_t max_dynamic_shared_bytes = 99 * 1024;  // what sm_86 and sm_89 grant
};
Options& options();

// ---- one thread of a block ----------------------------------------------------------------------

struct PendingCopy {
  void* to;
  const void* from;
  std::size_t bytes;
  bool present;
  int group;
};

struct Thread {
  static constexpr int kMaxCopies = 256;

  Index3 index;
  Index3 block;
  Dim3 block_size, grid_size;
  int linear = 0;
  PendingCopy copies[kMaxCopies];  // issued and not landed, a ring in order of issue
  int first_copy = 0, copy_count = 0, copy_group = 0;

  int lane() const { return linear % 32; }
  int warp() const { return linear / 32; }
};

extern thread_local constinit Thread* current_thread;
inline Thread& current() {
  return *current_thread;
}

// ---- the scheduler's side (emulator.cpp, collectives.cpp) ---------------------------------------

[[noreturn]] void fail(const char* what, Site site = Site::current());

// Runs body(argument) once for each thread of the grid.
void run_grid(Dim3 grid, Dim3 block, std::size_t dynamic_shared_bytes, void (*body)(void*),
              void* argument, Site site);

void block_barrier(Site site);
void warp_barrier(std::uint32_t mask, Site site);
std::uint64_t shuffle_xor(std::uint64_t bits, int lane_mask, Site site);
std::uint64_t shuffle_from(std::uint64_t bits, int lane, Site site);
std::uint32_t ballot(bool vote, Site site);
// rows[i] becomes the row that lane i gave.
void gather_rows(const void* row, const void* (&rows)[32], Site site);
// d += a b for the fragments of mma.sync.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16").
void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                  bool is_bf16, Site site);

void* dynamic_shared(std::size_t alignment, Site site);
int new_static_slot();
void* static_shared(int slot, std::size_t bytes, Site site);
bool in_shared(const void* begin, std::size_t bytes);

// One array for each declaration and template instance: `Tag` is a fresh closure type at each.
template <class T, std::size_t kCount, class Tag>
T (&shared_array(Tag, Site site = Site::current()))
[kCount] {
  static const int slot = new_static_slot();
  return *static_cast<T(*)[kCount]>(static_shared(slot, sizeof(T) * kCount, site));
}

// While a stream captures, what would be done now is added to this list instead.
using Work = std::vector<std::function<void()>>;
inline Work* capture = nullptr;

template <class Body>
void launch(Dim3 grid, Dim3 block, std::size_t dynamic_shared_bytes, Body body, Site site) {
  if (capture != nullptr) {
    return capture->push_back([=] { launch(grid, block, dynamic_shared_bytes, body, site); });
  }
  run_grid(
      grid, block, dynamic_shared_bytes, [](void* p) { (*static_cast<Body*>(p))(); }, &body, site);
}

// ---- asynchronous copies: here, so that sanitizers see them as the thread's own -----------------

inline void land(const PendingCopy& copy) {
  if (copy.present) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  } else {
    std::memset(copy.to, 0, copy.bytes);
  }
}

inline void copy_async(void* to, const void* from, std::size_t bytes, bool present, Site site) {
  if (reinterpret_cast<std::uintptr_t>(to) % bytes != 0) fail("copy to misaligned address", site);
  if (reinterpret_cast<std::uintptr_t>(from) % bytes != 0) {
    fail("copy from misaligned address", site);
  }
  if (!in_shared(to, bytes)) fail("copy to what is not this block's shared memory", site);
  Thread& thread = current();
  const PendingCopy copy{to, from, bytes, present, thread.copy_group};
  if (!options().late_copies) return land(copy);
  std::memset(to, 0xFF, bytes);  // undefined until it has been waited for: a NaN
  if (thread.copy_count == Thread::kMaxCopies) fail("more copies in flight than expected", site);
  thread.copies[(thread.first_copy + thread.copy_count++) % Thread::kMaxCopies] = copy;
}

inline void commit_copies() {
  ++current().copy_group;
}

// All but the newest `pending` groups have landed.
inline void wait_copies(int pending) {
  Thread& thread = current();
  while (thread.copy_count > 0 &&
         thread.copies[thread.first_copy].group < thread.copy_group - pending) {
    land(thread.copies[thread.first_copy]);
    thread.first_copy = (thread.first_copy + 1) % Thread::kMaxCopies;
    --thread.copy_count;
  }
}

}  // namespace gpt2train::emulator

// ---- built-in variables -------------------------------------------------------------------------

#define threadIdx (::gpt2train::emulator::current().index)
#define blockIdx (::gpt2train::emulator::current().block)
#define blockDim (::gpt2train::emulator::current().block_size)
#define gridDim (::gpt2train::emulator::current().grid_size)
