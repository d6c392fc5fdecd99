// The samples of optimizer steps in memory that the device copies from by itself. Two steps have
// room, so the next one is read while the device still works on this one.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "gpt2train/data/loader.h"
#include "gpt2train/ops/backend.h"

namespace gpt2train {

// Row r is sample first_sample + r; pointers may be advanced to the rows of a micro-batch.
struct StepRows {
  const std::int32_t* inputs = nullptr;    // (samples, T)
  const std::int32_t* targets = nullptr;   // (samples, T)
  const std::uint64_t* samples = nullptr;  // (samples): their run-wide indices

  StepRows from(std::int64_t row, std::int64_t time) const {
    return {inputs + row * time, targets + row * time, samples + row};
  }
};

class StepTokens {
 public:
  // `samples` of a step, of `time` tokens each.
  StepTokens(const Backend& backend, const Loader& loader, std::int64_t samples, std::int64_t time);

  // The step that begins with that sample. What an earlier call returned stays as it is until the
  // next call but one, by when the device must have copied it.
  StepRows at(std::uint64_t first_sample);

 private:
  struct Step {
    std::shared_ptr<void> memory;
    std::uint64_t* samples = nullptr;
    std::int32_t *inputs = nullptr, *targets = nullptr;
    std::optional<std::uint64_t> first_sample;
  };

  const Loader& loader_;
  std::int64_t samples_;
  std::array<Step, 2> steps_;  // the newest first
};

}  // namespace gpt2train
