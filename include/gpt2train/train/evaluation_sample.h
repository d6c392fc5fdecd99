// The text that a run writes at each evaluation, to see what a loss means.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "gpt2train/train/inference.h"

namespace gpt2train {

// What the tokens are, which the trainer does not know.
struct SampleText {
  std::int32_t first_token = 0;  // that the text goes on from
  // Token `index` of the text; none stops it.
  std::function<std::optional<std::int32_t>(std::int64_t index, std::span<const float> logits)>
      next = {};
  // Of all of them together, in well-formed UTF-8: characters may span tokens, or be cut off.
  std::function<std::string(std::span<const std::int32_t>)> text_of = {};
};

// evaluation.sample_tokens tokens, always as many: memory does not depend on what they say. Empty
// where the settings ask for none. A dry run does the same, less what only repeats, and needs no
// SampleText.
std::string write_sample(const InferenceModel& model, const SampleText& sample);

}  // namespace gpt2train
