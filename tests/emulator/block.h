// What the emulator keeps of the block that runs: its fibers, the barrier, warp collectives on
// their way, shared memory. One a thread of the host. Not for kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/emulator/emulator.h"
#include "tests/emulator/fiber.h"

// Set where the kernels are compiled with that sanitizer, which must be told of every switch.
#ifndef EMULATOR_ASAN
#define EMULATOR_ASAN 0
#endif
#ifndef EMULATOR_TSAN
#define EMULATOR_TSAN 0
#endif

#if EMULATOR_TSAN
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#endif

namespace gpt2train::emulator {

inline constexpr int kMaxThreads = 1024, kMaxWarps = kMaxThreads / 32, kMaxSlots = 1024;

// What happens before a release is seen after the acquire of the same object.
inline void acquire([[maybe_unused]] void* object) {
#if EMULATOR_TSAN
  __tsan_acquire(object);
#endif
}
inline void release([[maybe_unused]] void* object) {
#if EMULATOR_TSAN
  __tsan_release(object);
#endif
}

enum class State : std::uint8_t { kReady, kAtBarrier, kInCollective, kDone };

struct Fiber {
  Thread thread;
  Context context;
  char* stack = nullptr;
  void* asan_stack = nullptr;  // what AddressSanitizer keeps of a stack that does not run
  void* tsan_fiber = nullptr;
  State state = State::kDone;
  Site waits_at = {};
};

// A warp collective that some of its lanes have reached.
struct Collective {
  std::uint32_t mask = 0, arrived = 0;
  int kind = 0;
  Site site = {};
  void* argument[32] = {};
};

struct Warp {
  std::uint32_t live = 0;
  Collective pending[4];  // of disjoint masks
  unsigned barrier_count = 0;
  char barrier_tag[2];  // in turns: a fast lane may reach the next barrier early
};

struct SharedArray {
  void* data = nullptr;
  std::size_t bytes = 0;
  bool used = false;  // by the block that runs
  char tag = 0;
};

struct Block {
  Fiber fibers[kMaxThreads];
  Fiber* threads[kMaxThreads] = {};  // of the block, in order
  Warp warps[kMaxWarps];
  Context main_context;
  void* main_asan_stack = nullptr;
  const void* main_stack = nullptr;
  std::size_t main_stack_bytes = 0;
  void* main_tsan_fiber = nullptr;

  int thread_count = 0, live_count = 0;
  int ready[kMaxThreads] = {};  // a ring of threads that may run
  int first_ready = 0, ready_count = 0;

  int at_barrier = 0;
  unsigned barrier_count = 0;
  Site barrier_site = {};
  char barrier_tag[2], start_tag, end_tag;

  SharedArray slots[kMaxSlots];
  int slot_count = 0;
  std::size_t static_bytes = 0;
  SharedArray dynamic;
  std::vector<void*> retired;  // shared memory of finished blocks, where addresses must not recur

  void (*body)(void*) = nullptr;
  void* argument = nullptr;
  Site launch_site = {};
  Fiber* current = nullptr;
  int rotation = 0;
  std::uint64_t random = 1;
};

extern thread_local constinit Block* running;

bool same_place(const Site& a, const Site& b);
void make_ready(Fiber* fiber);
// Runs another fiber until the calling one is ready and its turn comes; it waits in `state`.
void wait_in(State state, Site site);
// The calling fiber goes to the end of the queue, where orders are random.
void maybe_yield();

}  // namespace gpt2train::emulator
