#include "gpt2train/train/inference.h"

#include "gpt2train/core/units.h"
#include "gpt2train/memory/upstream.h"
#include "gpt2train/train/step.h"

namespace gpt2train {

Pass InferenceModel::pass(std::int64_t batch, std::int64_t time) const {
  return {.exec = exec,
          .config = config.model,
          .precision = precision_of(config),
          .batch = batch,
          .time = time};
}

Prediction predict_inference(const KernelTable& kernels, const RunConfig& config, std::int64_t rows,
                             std::size_t budget_bytes, const InferenceWork& work) {
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, budget_bytes, config.memory.segments);
  const Exec exec(kernels, memory, Compute::kDryRun);
  Prediction prediction{.steady = true};
  try {
    const ModelState state(exec, config.model, precision_of(config), Purpose::kInference);
    work({exec, config, state.weights()}, rows);
  } catch (const OutOfMemoryError& error) {
    prediction.failure = error.facts();
  }
  prediction.stats = memory.stats();
  return prediction;
}

FittingRows fitting_rows(const KernelTable& kernels, const RunConfig& config, std::int64_t rows,
                         std::size_t budget_bytes, const InferenceWork& work) {
  const auto trial = [&](std::int64_t some, std::size_t budget) {
    return FittingRows{some, predict_inference(kernels, config, some, budget, work)};
  };
  FittingRows best = trial(rows, budget_bytes);
  if (best.prediction.fits()) return best;

  best = trial(1, budget_bytes);
  if (!best.prediction.fits()) {
    const std::size_t smallest =
        trial(1, CachingAllocator::kNoBudget).prediction.stats.peak_reserved_bytes;
    throw OutOfMemoryError(*best.prediction.failure,
                           concat("the smallest memory.limit that works here is ", smallest,
                                  " bytes (", human_bytes(smallest), ')'));
  }
  for (std::int64_t too_many = rows; too_many - best.rows > 1;) {
    FittingRows middle = trial((best.rows + too_many) / 2, budget_bytes);
    if (middle.prediction.fits()) {
      best = std::move(middle);
    } else {
      too_many = middle.rows;
    }
  }
  return best;
}

}  // namespace gpt2train
