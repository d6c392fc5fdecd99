// How often a model finds the right ending the likeliest.
#pragma once

#include <cstdint>
#include <span>

#include "gpt2train/data/choices.h"
#include "gpt2train/train/inference.h"

namespace gpt2train {

struct ChoiceScore {
  std::int64_t examples = 0;
  std::int64_t correct = 0;             // by the probability of the ending
  std::int64_t correct_normalised = 0;  // by that a token, which favours no short ending

  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(examples); }
  double accuracy_normalised() const {
    return static_cast<double>(correct_normalised) / static_cast<double>(examples);
  }
};

// Endings are continued from their context, as in llm.c; of equal ones the first is taken. `rows`
// sequences at a time. Throws ConfigError where one is longer than block_size.
ChoiceScore score_choices(const InferenceModel& model, std::span<const ChoiceExample> examples,
                          std::int64_t rows);

}  // namespace gpt2train
