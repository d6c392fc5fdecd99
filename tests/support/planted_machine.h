// A machine whose rates are known, in place of one that is measured.
#pragma once

#include <algorithm>

#include "src/cli/speed_model.h"

namespace gpt2train::test {

struct PlantedMachine {
  double flops_per_second = 2e12;
  double bytes_per_second = 1e11;
  double seconds_per_call = 4e-6;
  double update_bytes_per_second = 5e10;

  double seconds(const std::vector<OpCalls>& ops) const {
    double sum = 0.0;
    for (const OpCalls& op : ops) {
      const double roof =
          std::max(op.work.flops / flops_per_second, op.work.bytes / bytes_per_second);
      sum += static_cast<double>(op.count) * (roof + seconds_per_call);
    }
    return sum;
  }
  double update_seconds(const StepWork& work) const {
    double bytes = 0.0;
    for (const OpCalls& op : work.update) bytes += static_cast<double>(op.count) * op.work.bytes;
    return bytes / update_bytes_per_second;
  }
  double step_seconds(const StepWork& work, std::int64_t accumulation) const {
    return seconds(work.first) + static_cast<double>(accumulation - 1) * seconds(work.next) +
           update_seconds(work);
  }
};

}  // namespace gpt2train::test
