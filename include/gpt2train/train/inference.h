// A model that is only read: sampling and evaluation. What they take is found as for training, by a
// dry run of the code itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "gpt2train/model/pass.h"
#include "gpt2train/train/plan.h"
#include "gpt2train/train/state.h"

namespace gpt2train {

// Copied freely, owning nothing.
struct InferenceModel {
  const Exec& exec;
  const RunConfig& config;
  const ModelTensors& weights;

  // Of `batch` sequences of `time` tokens.
  Pass pass(std::int64_t batch, std::int64_t time) const;
};

// What is to be done, with up to `rows` sequences at a time. In a dry run it does the same, less
// what only repeats.
using InferenceWork = std::function<void(const InferenceModel& model, std::int64_t rows)>;

// Memory of the weights and the work. Allocates nothing.
Prediction predict_inference(const KernelTable& kernels, const RunConfig& config, std::int64_t rows,
                             std::size_t budget_bytes, const InferenceWork& work);

struct FittingRows {
  std::int64_t rows = 0;
  Prediction prediction = {};
};

// The most rows, up to `rows`, with which the work fits the budget. Throws OutOfMemoryError, with
// the smallest budget that works, where one does not fit.
FittingRows fitting_rows(const KernelTable& kernels, const RunConfig& config, std::int64_t rows,
                         std::size_t budget_bytes, const InferenceWork& work);

}  // namespace gpt2train
