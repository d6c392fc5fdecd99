// What a step of a plan moves and computes, recomputation, chunks of logits and moments included:
// counted in a dry run of the training code itself.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt2train/ops/work_tally.h"
#include "gpt2train/train/plan.h"

namespace gpt2train {

struct StepWork {
  std::vector<OpCalls> first;   // micro-batch of a step, which writes gradients
  std::vector<OpCalls> next;    // micro-batch, which adds to them
  std::vector<OpCalls> update;  // of the weights, once a step
};

// `kernels` are for their scratch sizes only. Takes as long as a few dry steps.
StepWork step_work(const KernelTable& kernels, const RunConfig& config, const Plan& plan);

}  // namespace gpt2train
