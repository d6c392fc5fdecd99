#include "gpt2train/ops/profiler.h"

#include <algorithm>

namespace gpt2train {

void Profiler::add(const char* name, const Work& work, double seconds) {
  auto found = std::find_if(times_.begin(), times_.end(),
                            [&](const KernelTime& each) { return each.name == name; });
  if (found == times_.end()) found = times_.insert(found, {.name = name});
  ++found->calls;
  found->seconds += seconds;
  found->work.bytes += work.bytes;
  found->work.flops += work.flops;
}

std::vector<KernelTime> Profiler::times() const {
  std::vector<KernelTime> sorted = times_;
  std::sort(sorted.begin(), sorted.end(),
            [](const KernelTime& a, const KernelTime& b) { return a.seconds > b.seconds; });
  return sorted;
}

}  // namespace gpt2train
