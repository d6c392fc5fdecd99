#include "gpt2train/train/step_work.h"

#include "gpt2train/memory/upstream.h"
#include "gpt2train/train/state.h"
#include "gpt2train/train/step.h"

namespace gpt2train {
namespace {

// The calls that `all` has beyond those of `some`.
std::vector<OpCalls> less(const std::vector<OpCalls>& all, const std::vector<OpCalls>& some) {
  WorkTally difference;
  for (const OpCalls& calls : all) difference.add(calls.name, calls.work, calls.count);
  for (const OpCalls& calls : some) difference.add(calls.name, calls.work, -calls.count);
  std::vector<OpCalls> rest;
  for (const OpCalls& calls : difference.calls()) {
    if (calls.count != 0) rest.push_back(calls);
  }
  return rest;
}

}  // namespace

StepWork step_work(const KernelTable& kernels, const RunConfig& config, const Plan& plan) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget, config.memory.segments);
  CachingAllocator host_memory(upstream, CachingAllocator::kNoBudget);
  Exec exec(kernels, memory, Compute::kDryRun);
  exec.set_host_memory(&host_memory);
  ModelState state(exec, config.model, precision_of(config), Purpose::kTraining,
                   config.memory.offload);
  const auto counted = [&](const auto& run) {
    WorkTally tally;
    exec.set_tally(&tally);
    run();
    exec.set_tally(nullptr);
    return tally.calls();
  };
  const auto step_of = [&](std::int64_t accumulation) {
    Plan some = plan;
    some.accumulation = accumulation;  // a dry run leaves out no more than what follows two
    return counted(
        [&] { static_cast<void>(train_step(exec, config, some, state, nullptr, {}, {})); });
  };
  StepWork work;
  const std::vector<OpCalls> one = step_of(1), two = step_of(2);
  work.update = counted([&] { update_weights(exec, config, state, {}); });
  work.first = less(one, work.update);
  work.next = less(two, one);
  return work;
}

}  // namespace gpt2train
