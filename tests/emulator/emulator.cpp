// Fibers, the block barrier and the grid. Compiled without sanitizers, which are told of switches.
#include "tests/emulator/emulator.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "tests/emulator/block.h"

#if EMULATOR_ASAN
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace gpt2train::emulator {

thread_local constinit Thread* current_thread = nullptr;
thread_local constinit Block* running = nullptr;

Options& options() {
  static Options chosen;
  return chosen;
}

bool same_place(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         std::strcmp(a.file_name(), b.file_name()) == 0;
}

namespace {

constexpr std::size_t kStackBytes = (EMULATOR_ASAN ? 256 : 128) * 1024;
constexpr std::size_t kGuardBytes = 4096;
constexpr std::size_t kMaxStaticBytes = 48 * 1024;

// ---- errors -------------------------------------------------------------------------------------

void print_place(const char* lead, const Site& site) {
  std::fprintf(stderr, "%s %s:%u (%s)\n", lead, site.file_name(), site.line(),
               site.function_name());
}

const char* words_for(State state) {
  switch (state) {
    case State::kReady:
      return "may run";
    case State::kAtBarrier:
      return "wait at a block barrier:";
    case State::kInCollective:
      return "wait in a warp collective:";
    case State::kDone:
      break;
  }
  return "have returned";
}

[[noreturn]] void report_deadlock() {
  std::fprintf(stderr, "emulator: deadlock: no thread of the block can run\n");
  for (int i = 0; i < running->thread_count;) {
    const Fiber& first = *running->threads[i];
    int end = i + 1;
    while (end < running->thread_count && running->threads[end]->state == first.state &&
           (first.state == State::kDone ||
            same_place(running->threads[end]->waits_at, first.waits_at))) {
      ++end;
    }
    std::fprintf(stderr, "  threads %d to %d %s\n", i, end - 1, words_for(first.state));
    if (first.state != State::kDone) print_place("   ", first.waits_at);
    i = end;
  }
  print_place("  launched at", running->launch_site);
  std::abort();
}

// ---- fibers -------------------------------------------------------------------------------------

std::uint64_t next_random() {
  std::uint64_t& x = running->random;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return x;
}

Fiber* take_ready() {
  Block& block = *running;
  if (block.ready_count == 0) report_deadlock();
  if (options().order == Order::kRandom) {
    const int other = static_cast<int>(next_random() % static_cast<unsigned>(block.ready_count));
    std::swap(block.ready[block.first_ready],
              block.ready[(block.first_ready + other) % kMaxThreads]);
  }
  const int thread = block.ready[block.first_ready];
  block.first_ready = (block.first_ready + 1) % kMaxThreads;
  --block.ready_count;
  return block.threads[thread];
}

void jump(Context& from, [[maybe_unused]] void** from_asan, Context& to,
          [[maybe_unused]] const void* to_stack, [[maybe_unused]] std::size_t to_bytes,
          [[maybe_unused]] void* to_tsan) {
#if EMULATOR_ASAN
  __sanitizer_start_switch_fiber(from_asan, to_stack, to_bytes);
#endif
#if EMULATOR_TSAN
  __tsan_switch_to_fiber(to_tsan, 1);  // 1: the switch itself orders nothing
#endif
  switch_to(from, to);
#if EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(*from_asan, nullptr, nullptr);
#endif
}

void run_fiber(Fiber* to) {
  Block& block = *running;
  Fiber* const from = block.current;
  if (from == to) return;
  block.current = to;
  current_thread = &to->thread;
  jump(from != nullptr ? from->context : block.main_context,
       from != nullptr ? &from->asan_stack : &block.main_asan_stack, to->context, to->stack,
       kStackBytes, to->tsan_fiber);
}

void return_to_main() {
  Block& block = *running;
  Fiber* const from = block.current;
  block.current = nullptr;
  current_thread = nullptr;
  jump(from->context, &from->asan_stack, block.main_context, block.main_stack,
       block.main_stack_bytes, block.main_tsan_fiber);
}

void release_barrier() {
  Block& block = *running;
  block.at_barrier = 0;
  ++block.barrier_count;
  for (int i = 0; i < block.thread_count; ++i) {
    const bool reverse = options().order == Order::kReverse;
    Fiber* const fiber = block.threads[reverse ? block.thread_count - 1 - i : i];
    if (fiber->state == State::kAtBarrier) make_ready(fiber);
  }
}

void end_thread() {
  Block& block = *running;
  Fiber* const fiber = block.current;
  const Thread& thread = fiber->thread;
  if (thread.copy_count > 0) {
    fail("a thread returns with copies that it never waited for", block.launch_site);
  }
  Warp& warp = block.warps[thread.warp()];
  warp.live &= ~(1u << thread.lane());
  for (const Collective& pending : warp.pending) {
    if (pending.arrived != 0 && (pending.mask >> thread.lane() & 1) != 0) {
      fail("a thread returns while its warp waits for it", pending.site);
    }
  }
  fiber->state = State::kDone;
  release(&block.end_tag);
  if (--block.live_count == 0) return return_to_main();
  if (block.at_barrier > 0 && block.at_barrier == block.live_count) {
    fail("a thread returns while all others wait at a barrier", block.barrier_site);
  }
  run_fiber(take_ready());
}

// A fiber plays one thread of each block in turn, and never returns.
void fiber_main() {
#if EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  for (;;) {
    acquire(&running->start_tag);
    running->body(running->argument);
    end_thread();
  }
}

void give_stack(Fiber& fiber) {
  void* memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE) != 0) {
    std::perror("emulator: a stack");
    std::abort();
  }
  fiber.stack = static_cast<char*>(memory) + kGuardBytes;
  prepare(fiber.context, fiber.stack, kStackBytes, fiber_main);
#if EMULATOR_TSAN
  fiber.tsan_fiber = __tsan_create_fiber(0);
#endif
}

// ---- shared memory ------------------------------------------------------------------------------

// Not rounded up, so that a red zone begins at the very next byte; NaNs, so that what was never
// written shows.
void* garbage(std::size_t bytes) {
  void* data = nullptr;
  if (posix_memalign(&data, 1024, bytes) != 0) std::abort();
  std::memset(data, 0xFF, bytes);
  return data;
}

// Under ThreadSanitizer each block has memory of its own: reuse would look like a race of blocks.
void renew_shared(std::size_t dynamic_bytes) {
  Block& block = *running;
  block.static_bytes = 0;
  for (int i = 0; i < block.slot_count; ++i) {
    SharedArray& array = block.slots[i];
    array.used = false;
    if (EMULATOR_TSAN) array.data = nullptr;
    if (array.data != nullptr) std::memset(array.data, 0xFF, array.bytes);
  }
  SharedArray& dynamic = block.dynamic;
  if (!EMULATOR_TSAN) std::free(dynamic.data);
  dynamic = {};
  if (dynamic_bytes == 0) return;
  dynamic.data = garbage(dynamic_bytes);
  dynamic.bytes = dynamic_bytes;
  if (EMULATOR_TSAN) block.retired.push_back(dynamic.data);
}

// ---- blocks and grids ---------------------------------------------------------------------------

void run_block(Index3 index, Dim3 grid, Dim3 size, std::size_t dynamic_bytes) {
  Block& block = *running;
  const int count = static_cast<int>(size.x * size.y * size.z);
  block.thread_count = block.live_count = count;
  block.first_ready = block.ready_count = block.at_barrier = 0;
  renew_shared(dynamic_bytes);
  for (int w = 0; w * 32 < count; ++w) {
    Warp& warp = block.warps[w];
    warp.live = count - w * 32 >= 32 ? ~0u : (1u << (count - w * 32)) - 1;
    for (Collective& pending : warp.pending) pending = {};
  }
  // A fiber comes after what it did for an earlier block; if it always played the same thread, that
  // would hide races between equal threads of two blocks.
  const bool random = options().order == Order::kRandom;
  block.rotation =
      (block.rotation + 1 + (random ? static_cast<int>(next_random() % 64) : 0)) % count;
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = block.fibers[(i + block.rotation) % count];
    if (fiber.stack == nullptr) give_stack(fiber);
    Thread& thread = fiber.thread;
    const auto at = static_cast<unsigned>(i);
    thread.index = {at % size.x, at / size.x % size.y, at / (size.x * size.y)};
    thread.block = index;
    thread.block_size = size;
    thread.grid_size = grid;
    thread.linear = i;
    thread.first_copy = thread.copy_count = thread.copy_group = 0;
    block.threads[i] = &fiber;
  }
  for (int i = 0; i < count; ++i) {
    make_ready(block.threads[options().order == Order::kReverse ? count - 1 - i : i]);
  }
  release(&block.start_tag);
#if EMULATOR_TSAN
  block.main_tsan_fiber = __tsan_get_current_fiber();
#endif
  run_fiber(take_ready());
}

// Blocks are kept until the process ends, as their fibers are costly to make; never destroyed, so
// that LeakSanitizer still finds their memory reachable.
Block* block_of_worker(int worker) {
  static auto& blocks = *new std::vector<std::unique_ptr<Block>>(64);
  auto& block = blocks[static_cast<std::size_t>(worker)];
  if (!block) block = std::make_unique<Block>();
  return block.get();
}

void note_main_stack([[maybe_unused]] Block& block) {
#if EMULATOR_ASAN
  pthread_attr_t attributes;
  void* stack = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &block.main_stack_bytes);
  pthread_attr_destroy(&attributes);
  block.main_stack = stack;
#endif
}

}  // namespace

void fail(const char* what, Site site) {
  std::fprintf(stderr, "emulator: %s\n", what);
  print_place("  at", site);
  if (running != nullptr && running->current != nullptr) {
    const Thread& t = running->current->thread;
    std::fprintf(stderr, "  block (%u, %u, %u), thread (%u, %u, %u), warp %d, lane %d\n", t.block.x,
                 t.block.y, t.block.z, t.index.x, t.index.y, t.index.z, t.warp(), t.lane());
    print_place("  launched at", running->launch_site);
  }
  std::abort();
}

void make_ready(Fiber* fiber) {
  Block& block = *running;
  fiber->state = State::kReady;
  block.ready[(block.first_ready + block.ready_count++) % kMaxThreads] = fiber->thread.linear;
}

void wait_in(State state, Site site) {
  running->current->state = state;
  running->current->waits_at = site;
  run_fiber(take_ready());
}

void maybe_yield() {
  if (options().order != Order::kRandom) return;
  make_ready(running->current);
  run_fiber(take_ready());
}

void block_barrier(Site site) {
  Block& block = *running;
  if (block.at_barrier == 0) {
    block.barrier_site = site;
  } else if (!same_place(block.barrier_site, site)) {
    fail("threads of one block are at different barriers", site);
  }
  if (block.live_count != block.thread_count) {
    fail("a barrier after some threads of the block returned", site);
  }
  char* const tag = &block.barrier_tag[block.barrier_count % 2];
  release(tag);
  if (++block.at_barrier < block.live_count) {
    wait_in(State::kAtBarrier, site);
  } else {
    release_barrier();
    maybe_yield();
  }
  acquire(tag);
}

int new_static_slot() {
  static std::atomic<int> count = 0;
  const int slot = count++;
  if (slot >= kMaxSlots) fail("more shared arrays than expected");
  return slot;
}

void* static_shared(int slot, std::size_t bytes, Site site) {
  Block& block = *running;
  SharedArray& array = block.slots[slot];
  if (array.data == nullptr) {
    // Made and filled as the launcher, which every user of the array comes after.
#if EMULATOR_TSAN
    __tsan_switch_to_fiber(block.main_tsan_fiber, 1);
#endif
    array.data = garbage(bytes);
    array.bytes = bytes;
    block.slot_count = std::max(block.slot_count, slot + 1);
#if EMULATOR_TSAN
    block.retired.push_back(array.data);
    __tsan_release(&array.tag);
    __tsan_switch_to_fiber(block.current->tsan_fiber, 1);
#endif
  }
  acquire(&array.tag);
  if (!array.used) {
    array.used = true;
    block.static_bytes += (bytes + 15) / 16 * 16;
    if (block.static_bytes > kMaxStaticBytes) fail("static shared memory above 48 KiB", site);
  }
  return array.data;
}

void* dynamic_shared(std::size_t alignment, Site site) {
  if (running->dynamic.data == nullptr) fail("dynamic shared memory that no launch gave", site);
  if (alignment > 1024) fail("an alignment above 1024", site);
  return running->dynamic.data;
}

bool in_shared(const void* begin, std::size_t bytes) {
  const auto inside = [&](const SharedArray& array) {
    const auto* first = static_cast<const char*>(array.data);
    const auto* at = static_cast<const char*>(begin);
    return first != nullptr && at >= first && at + bytes <= first + array.bytes;
  };
  const Block& block = *running;
  return inside(block.dynamic) || std::any_of(block.slots, block.slots + block.slot_count, inside);
}

void run_grid(Dim3 grid, Dim3 size, std::size_t dynamic_bytes, void (*body)(void*), void* argument,
              Site site) {
  const std::size_t threads = std::size_t{size.x} * size.y * size.z;
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > kMaxThreads || size.z > 64) fail("launch: bad block size", site);
  if (blocks == 0 || grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) {
    fail("launch: bad grid size", site);
  }
  if (dynamic_bytes > options().max_dynamic_shared_bytes) {
    fail("launch: more dynamic shared memory than the device has", site);
  }
  std::atomic<std::size_t> next = 0;
  const auto work = [&](int worker) {
    running = block_of_worker(worker);
    note_main_stack(*running);
    running->random = (options().seed + static_cast<unsigned>(worker)) * 0x9E3779B97F4A7C15u | 1;
    running->body = body;
    running->argument = argument;
    running->launch_site = site;
    for (std::size_t i = next++; i < blocks; i = next++) {
      const std::size_t at = options().order == Order::kReverse ? blocks - 1 - i : i;
      run_block({static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                 static_cast<unsigned>(at / (std::size_t{grid.x} * grid.y))},
                grid, size, dynamic_bytes);
    }
    acquire(&running->end_tag);
    for (void* data : running->retired) std::free(data);
    running->retired.clear();
    running = nullptr;
  };
  const auto wanted = static_cast<std::size_t>(std::clamp(options().workers, 1, 64));
  const int workers = EMULATOR_TSAN ? 1 : static_cast<int>(std::min(blocks, wanted));
  if (workers == 1) return work(0);
  std::vector<std::thread> hosts;
  for (int i = 0; i < workers; ++i) hosts.emplace_back(work, i);
  for (std::thread& host : hosts) host.join();
}

}  // namespace gpt2train::emulator
