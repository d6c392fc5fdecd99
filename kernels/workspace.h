// Scratch memory of a kernel. Kernels never allocate: the op asks the table how much a call needs,
// takes it from the allocator and passes it on, so the dry run sees it too.
#pragma once

#include <cstddef>

namespace gpt2train {

struct Workspace {
  void* data = nullptr;  // aligned to 512 bytes
  std::size_t bytes = 0;
};

}  // namespace gpt2train
