// What a dry run would move and compute, op by op.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt2train/ops/profiler.h"

namespace gpt2train {

struct OpCalls {
  const char* name = "";  // "matmul"
  Work work = {};         // of one call
  std::int64_t count = 0;
};

class WorkTally {
 public:
  // Calls of equal work are one entry: layers repeat.
  void add(const char* name, const Work& work, std::int64_t count = 1);
  const std::vector<OpCalls>& calls() const { return calls_; }

 private:
  std::vector<OpCalls> calls_;
};

}  // namespace gpt2train
