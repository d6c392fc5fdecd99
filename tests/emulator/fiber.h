// Switching stacks by hand: the emulator runs each CUDA thread on a stack of its own. On x86-64 a
// switch is a dozen instructions; elsewhere it is ucontext, some ten times slower.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace gpt2train::emulator {

#if defined(__x86_64__)

struct Context {
  void* stack_pointer = nullptr;
};

// Saves what a function must preserve on the running stack, then takes it back from the other one.
asm(R"(
.text
.type gpt2train_switch_stacks,@function
gpt2train_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size gpt2train_switch_stacks,.-gpt2train_switch_stacks
)");
extern "C" void gpt2train_switch_stacks(void** save, void* load);

inline void prepare(Context& context, char* stack, std::size_t bytes, void (*entry)()) {
  const auto top = (reinterpret_cast<std::uintptr_t>(stack) + bytes) & ~std::uintptr_t{15};
  void** at = reinterpret_cast<void**>(top);
  *--at = nullptr;                              // entry() never returns; this keeps it aligned
  *--at = reinterpret_cast<void*>(entry);       // what `ret` pops
  for (int i = 0; i < 6; ++i) *--at = nullptr;  // the six registers
  context.stack_pointer = at;
}

inline void switch_to(Context& from, Context& to) {
  gpt2train_switch_stacks(&from.stack_pointer, to.stack_pointer);
}

#else

struct Context {
  ucontext_t state;
};

inline void prepare(Context& context, char* stack, std::size_t bytes, void (*entry)()) {
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = bytes;
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
}

inline void switch_to(Context& from, Context& to) {
  swapcontext(&from.state, &to.state);
}

#endif

}  // namespace gpt2train::emulator
