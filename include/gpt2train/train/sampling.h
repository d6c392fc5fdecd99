// Texts that go on from one prompt, several at once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "gpt2train/train/generator.h"

namespace gpt2train {

struct SamplingTask {
  std::vector<std::int32_t> prompt;  // not empty
  std::int64_t num_samples = 1;
  std::int64_t max_new_tokens = 1;
  Caching caching = Caching::kKept;
  // Token `index` of the new ones of a sample, from its logits; none ends the text. Samples that
  // are written together take turns, each in order of its tokens. Not called in a dry run.
  std::function<std::optional<std::int32_t>(std::int64_t sample, std::int64_t index,
                                            std::span<const float> logits)>
      next = {};
  // A sample is at its end; in order, once all that are written together are. Not in a dry run.
  std::function<void(std::int64_t sample)> done = {};
};

// `at_once` samples at a time, the last ones together. An InferenceWork.
void sample_texts(const InferenceModel& model, const SamplingTask& task, std::int64_t at_once);

}  // namespace gpt2train
