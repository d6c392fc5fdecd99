// One optimizer step: the micro-batches of a plan, the gradient norm, AdamW.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "gpt2train/model/head.h"
#include "gpt2train/ops/exec.h"
#include "gpt2train/train/plan.h"
#include "gpt2train/train/replay.h"
#include "gpt2train/train/run_config.h"
#include "gpt2train/train/state.h"
#include "gpt2train/train/step_tokens.h"

namespace gpt2train {

struct StepResult {
  float loss = 0.0f;   // mean over all tokens of the step
  float norm = 0.0f;   // of the gradients, before clipping
  bool finite = true;  // false: the update was skipped
};

struct StepPosition {
  std::int64_t iteration = 0;
  std::int64_t updates = 0;        // applied before this step
  std::uint64_t first_sample = 0;  // run-wide index of the step's first sample
  float loss_scale = 1.0f;
};

// What a real step has beyond its memory.
struct StepSource {
  StepTokens tokens;
  Replay replay;
};

// Called before each micro-batch; true abandons the step, which has changed nothing by then.
using StopCheck = std::function<bool(std::int64_t micro, std::int64_t of)>;

// Throws OutOfMemoryError before anything that outlives the step has changed: every allocation
// comes before the optimizer's first write. Empty when stopped. A dry run needs no source, and
// leaves out micro-batches that only repeat.
std::optional<StepResult> train_step(const Exec& exec, const RunConfig& config, const Plan& plan,
                                     ModelState& state, StepSource* source,
                                     const StepPosition& position, const StopCheck& stop);

// The end of a step: the norm of the gradients that are there, and AdamW.
void update_weights(const Exec& exec, const RunConfig& run, const ModelState& state,
                    const StepPosition& position);

Precision precision_of(const RunConfig& config);
HeadMode head_mode_of(const RunConfig& config);

}  // namespace gpt2train
