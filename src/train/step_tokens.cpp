#include "gpt2train/train/step_tokens.h"

#include <numeric>
#include <utility>

namespace gpt2train {

StepTokens::StepTokens(const Backend& backend, const Loader& loader, std::int64_t samples,
                       std::int64_t time)
    : loader_(loader), samples_(samples) {
  const auto count = static_cast<std::size_t>(samples);
  const std::size_t tokens = count * static_cast<std::size_t>(time);
  for (Step& step : steps_) {
    step.memory =
        backend.host_memory(count * sizeof(std::uint64_t) + 2 * tokens * sizeof(std::int32_t));
    step.samples = static_cast<std::uint64_t*>(step.memory.get());
    step.inputs = reinterpret_cast<std::int32_t*>(step.samples + count);
    step.targets = step.inputs + tokens;
  }
}

StepRows StepTokens::at(std::uint64_t first_sample) {
  if (steps_[0].first_sample != first_sample) {
    std::swap(steps_[0], steps_[1]);
    Step& step = steps_[0];
    if (step.first_sample != first_sample) {
      step.first_sample.reset();
      loader_.read(first_sample, samples_, step.inputs, step.targets);
      std::iota(step.samples, step.samples + samples_, first_sample);
      step.first_sample = first_sample;
    }
  }
  return {steps_[0].inputs, steps_[0].targets, steps_[0].samples};
}

}  // namespace gpt2train
