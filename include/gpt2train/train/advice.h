// What to change when nothing fits: measured by dry runs, like every plan.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "gpt2train/train/plan.h"

namespace gpt2train {

struct Suggestion {
  std::string change;              // as typed: "--block_size=512"
  std::size_t reserved_bytes = 0;  // what the run would then reserve at most
};

struct Advice {
  std::size_t smallest_budget_bytes = 0;  // of any candidate plan, settings unchanged
  std::vector<Suggestion> suggestions;    // single changes that fit this budget; may be empty
};

Advice advise(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes);

// "the smallest memory.limit that works is 1.20 GiB; or fit this one with --block_size=512 (0.9
// GiB)"
std::string to_text(const Advice& advice);

}  // namespace gpt2train
