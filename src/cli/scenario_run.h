// A scenario carried out: in full where there is a GPU, with the scenario's card as the budget;
// reduced on a CPU, so that the same happens in a second.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/cli/reproduction.h"

namespace gpt2train {

// A training run of an evaluation, a step and another evaluation, and what its memory did.
struct ShortRun {
  std::optional<OutOfMemoryError::Facts> ran_out = {};  // the first request that was not met
  std::string error = {};                               // why it did not end; empty: it did
  Plan plan = {};                                       // in force at its end
  MemoryStats predicted = {}, measured = {};            // of that plan
  std::vector<double> losses = {};  // training and validation before, of the step, and both after

  bool ran() const { return error.empty(); }
  bool as_predicted() const;
  bool is_finite() const;
};

struct ScenarioRun {
  std::int64_t reduced_by = 1;
  std::string device = {};
  RunConfig config = {};             // as it was run, with its budget
  ShortRun by_default = {};          // planned before it starts
  ShortRun full_logits = {};         // all logits at once, and no plan: it recovers where it dies
  std::string expected_tensor = {};  // that full_logits should run out at; empty: it should fit

  bool ran_out_as_expected() const;
  // Both runs ended, with finite losses, in the memory that was predicted, and as in full.
  bool holds() const;
};

// `found` is of the same scenario. On a CPU, widths, vocabulary, sequences and chunks of logits are
// a sixteenth: all that takes memory is a product of two of them, and takes a 256th, but for
// scratch that depends on threads. It computes in float32, segments are expandable, as fixed ones
// of 20 MiB would be a third of all, and the budget is the one nearest to the same share of what
// all logits take under which the same tensor is the first that does not fit. Tokens are random.
// Throws DeviceError and DataError where there is no device, or no place for them.
ScenarioRun run_scenario(const Scenario& scenario, const Reproduction& found, DeviceChoice device);

}  // namespace gpt2train
