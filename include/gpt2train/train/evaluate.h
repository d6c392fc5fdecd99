// The mean loss over a fixed set of samples of one split, without gradients or dropout.
#pragma once

#include <cstdint>
#include <optional>

#include "gpt2train/data/loader.h"
#include "gpt2train/train/plan.h"
#include "gpt2train/train/state.h"
#include "gpt2train/train/step.h"

namespace gpt2train {

// eval_iters * batch_size samples, plan.micro_batch or eval_micro_batch at a time, whichever is
// less: the same ones whatever the plan, and at every evaluation of a run. A dry run needs no
// loader. Empty when stopped.
std::optional<float> evaluate_split(const Exec& exec, const RunConfig& config, const Plan& plan,
                                    const ModelState& state, const Loader* loader,
                                    const char* split, const StopCheck& stop);

}  // namespace gpt2train
