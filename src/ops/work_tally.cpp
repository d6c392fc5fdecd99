#include "gpt2train/ops/work_tally.h"

#include <algorithm>
#include <cstring>

namespace gpt2train {

void WorkTally::add(const char* name, const Work& work, std::int64_t count) {
  const auto found = std::find_if(calls_.begin(), calls_.end(), [&](const OpCalls& each) {
    return each.work == work && std::strcmp(each.name, name) == 0;
  });
  if (found == calls_.end()) {
    calls_.push_back({.name = name, .work = work, .count = count});
  } else {
    found->count += count;
  }
}

}  // namespace gpt2train
