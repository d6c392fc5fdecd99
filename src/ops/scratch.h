// Takes a kernel's scratch for the length of one call.
#pragma once

#include "gpt2train/memory/tensor.h"
#include "gpt2train/ops/exec.h"

namespace gpt2train::ops {

// `buffer` owns what `args.workspace` points to; the size comes from the backend.
template <class Args>
Buffer take_workspace(const Exec& exec, std::size_t (*size)(const Args&), Args& args,
                      const char* name) {
  const std::size_t bytes = size(args);
  if (bytes == 0) return {};
  Buffer buffer(exec.memory(), bytes, {.tag = Tag::kWorkspace, .tensor = name});
  args.workspace = {buffer.data(), bytes};
  return buffer;
}

}  // namespace gpt2train::ops
