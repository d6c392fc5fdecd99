// The losses of a few sequences, without gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt2train/train/inference.h"

namespace gpt2train {

// Token sequences of equal length with what is to come next at each place, (rows, time) each;
// negative targets do not count.
struct SequenceBatch {
  std::int64_t rows = 0, time = 0;
  std::vector<std::int32_t> inputs = {}, targets = {};

  SequenceBatch(std::int64_t row_count, std::int64_t length)
      : rows(row_count),
        time(length),
        inputs(static_cast<std::size_t>(rows * time)),
        targets(inputs.size(), -1) {}
};

// (rows, time) cross-entropies, of meaning where a target counts. Zeros in a dry run.
std::vector<float> sequence_losses(const InferenceModel& model, const SequenceBatch& batch);

}  // namespace gpt2train
