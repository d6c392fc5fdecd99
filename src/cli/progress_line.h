// The line below a run's others, on a terminal: where it is, how fast, and whose memory is whose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gpt2train/ops/backend.h"

namespace gpt2train {

struct ProgressLine {
  std::int64_t step = 0, last_step = 1;
  std::string_view what = {};  // "step", "evaluation of val"
  std::int64_t done = 0, of = 0;
  std::size_t in_use_bytes = 0, peak_bytes = 0, budget_bytes = 0;
  std::optional<std::size_t> others_bytes = {};  // on the same device
  struct Pace {
    double loss = 0.0, tokens_per_second = 0.0, seconds_left = 0.0;
  };
  std::optional<Pace> pace = {};  // after the first step
};

// At most `columns` wide: what matters least is left out until the rest fits, and a bar takes the
// room that remains.
std::string progress_line(const ProgressLine& line, int columns);

// What processes but `own_pid` have; nothing where that one is not among them, as then nobody knows
// which of the others it is (in a container).
std::optional<std::size_t> bytes_of_others(std::span<const ProcessMemory> processes, int own_pid);

}  // namespace gpt2train
