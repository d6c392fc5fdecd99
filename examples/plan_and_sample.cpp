// What a run by some settings would need on a card with 12 GB, which need not be here; then text
// from a run that is done. Usage: plan_and_sample SETTINGS.yaml OUT_DIR PROMPT
#include <iostream>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/run/run.h"
#include "gpt2train/run/sampler.h"

using namespace gpt2train;

namespace {

void tell_plan(const RunConfig& config) {
  const RunPlan answer = plan_run(config);
  std::cout << "of " << human_bytes(answer.budget_bytes) << ", ";
  if (!answer.chosen) {
    std::cout << "more than there is: no plan fits\n";
    return;
  }
  const auto& [plan, prediction] = answer.candidates[*answer.chosen];
  std::cout << human_bytes(prediction.stats.peak_reserved_bytes) << " are taken by "
            << plan.accumulation << " micro-batches of " << plan.micro_batch
            << ", recomputation: " << recompute_text(plan, config.model) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: plan_and_sample SETTINGS.yaml OUT_DIR PROMPT\n";
    return 2;
  }
  try {
    tell_plan(load_settings(argv[1], {"device=rtx3060"}));

    const Sampler sampler({.out_dir = argv[2], .device = "cpu"});
    std::cout << argv[3];
    sampler.sample({.prompt = argv[3], .max_new_tokens = 100, .draw = {.top_p = 0.9}},
                   [](std::string_view piece) { std::cout << piece << std::flush; });
    std::cout << '\n';
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
