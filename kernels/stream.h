// A device queue that host headers can carry without including a vendor's. The CPU ignores it.
#pragma once

namespace gpt2train {

struct Stream {
  void* handle = nullptr;
};

}  // namespace gpt2train
