// What can be changed in the settings of a run to make it smaller, one change at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpt2train/train/run_config.h"

namespace gpt2train {

// What a change costs besides time, in order of severity.
enum class ChangeEffect : std::uint8_t {
  kNone,      // the same mathematics; at most sums in another order
  kRounding,  // the same model, with other rounding
  kModel,     // another model
};

struct Change {
  std::string setting;  // changes of one setting are alternatives, the smallest first
  std::string flags;    // as typed: "--n_embd=512 --n_head=8"
  ChangeEffect effect = ChangeEffect::kNone;
  RunConfig config;  // with the change made
};

// Every single change, by effect, then by setting. `has_own_memory`: the device's memory is not the
// host's, so that something can be kept off it.
std::vector<Change> single_changes(const RunConfig& config, bool has_own_memory);

}  // namespace gpt2train
