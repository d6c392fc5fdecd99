// Dynamic loss scaling (Micikevicius et al. 2018), which keeps float16 gradients above what the
// type rounds to zero. Constants are those of PyTorch's GradScaler.
#pragma once

#include <cstdint>

namespace gpt2train {

struct LossScale {
  float factor = 65536.0f;  // on the loss, and so on every gradient until the update divides by it
  std::int64_t good = 0;    // steps since it changed, all of them finite

  static constexpr std::int64_t kGrowthInterval = 2000;

  // After a step. Powers of two throughout, so a change rounds nothing.
  void update(bool finite) {
    if (!finite) {
      good = 0;
      if (factor > 0x1p-24f) factor *= 0.5f;
    } else if (++good == kGrowthInterval) {
      good = 0;
      if (factor < 0x1p+40f) factor *= 2.0f;
    }
  }

  bool operator==(const LossScale&) const = default;
};

}  // namespace gpt2train
