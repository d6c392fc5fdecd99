#include "gpt2train/nanogpt/nanogpt.h"

#include <algorithm>
#include <iterator>

#include "src/nanogpt/model_trace.h"

namespace gpt2train {
namespace {

constexpr int kEvaluationBatches = 2;  // the second meets the first one's logits; later ones too
constexpr std::int64_t kMicroBatches = 2;
constexpr int kIterations = 2;  // the second meets the optimizer's state

struct Batch {
  TorchTensor inputs, targets;
};

// train.py, as far as it makes tensors.
class TrainLoop {
 public:
  TrainLoop(TorchDevice& device, const NanogptRun& run)
      : device_(device),
        shape_{run.batch_size, run.model.block_size},
        micro_batches_(std::min(run.gradient_accumulation_steps, kMicroBatches)),
        model_(run.form == NanogptForm::kEager ? eager_trace(device, run)
                                               : compiled_trace(device, run)) {}

  void run() {
    batch_ = get_batch();
    estimate_loss();
    for (int iteration = 0; iteration < kIterations; ++iteration) step();
    estimate_loss();
  }

  std::size_t forward_keeps_bytes() const { return forward_keeps_bytes_; }

 private:
  Batch get_batch() {
    TorchTensor inputs = device_.tensor("X", {shape_[0], shape_[1]}, kInt64Type);
    return {std::move(inputs), device_.tensor("Y", {shape_[0], shape_[1]}, kInt64Type)};
  }

  void estimate_loss() {
    device_.phase = NanogptPhase::kEvaluation;
    Batch batch;
    TorchTensor logits;
    for (int k = 0; k < kEvaluationBatches; ++k) {
      batch = get_batch();
      logits = model_->evaluate();  // the previous ones are let go when these are there
    }
  }

  void step() {
    for (std::int64_t micro_step = 0; micro_step < micro_batches_; ++micro_step) {
      device_.phase = NanogptPhase::kForward;
      const std::size_t before = device_.stats().requested_bytes;
      logits_ = model_->forward();
      if (forward_keeps_bytes_ == 0) {
        forward_keeps_bytes_ = device_.stats().requested_bytes - before;
      }
      Batch next = get_batch();
      std::swap(batch_, next);
      device_.phase = NanogptPhase::kBackward;
      model_->backward(std::move(next.inputs), std::move(next.targets));
    }
    device_.phase = NanogptPhase::kOptimizer;
    model_->optimizer_step();
    model_->drop_gradients();
  }

  TorchDevice& device_;
  std::int64_t shape_[2];
  std::int64_t micro_batches_;
  std::unique_ptr<ModelTrace> model_;
  Batch batch_;
  std::size_t forward_keeps_bytes_ = 0;
  TorchTensor logits_;  // a global of train.py: evaluation finds it alive
};

}  // namespace

const char* name_of(NanogptForm form) {
  return form == NanogptForm::kEager ? "nanogpt" : "nanogpt-compiled";
}

const char* name_of(NanogptPhase phase) {
  constexpr const char* kNames[kNanogptPhases] = {"setup", "evaluation", "forward", "backward",
                                                  "optimizer"};
  return kNames[static_cast<std::size_t>(phase)];
}

NanogptMemory simulate_nanogpt(const NanogptRun& run, std::size_t free_bytes,
                               TorchSegments segments) {
  NanogptMemory memory;
  TorchDevice device(free_bytes, segments);
  try {
    TrainLoop loop(device, run);
    loop.run();
    memory.forward_keeps_bytes = loop.forward_keeps_bytes();
  } catch (const NanogptStopped& stopped) {
    memory.failure = stopped.failure;
  }
  memory.stats = device.stats();
  std::copy(std::begin(device.peak_by_phase), std::end(device.peak_by_phase), memory.peak_by_phase);
  return memory;
}

std::int64_t largest_nanogpt_batch(NanogptRun run, std::size_t free_bytes, TorchSegments segments) {
  const auto fits = [&](std::int64_t batch_size) {
    run.batch_size = batch_size;
    return !simulate_nanogpt(run, free_bytes, segments).failure;
  };
  std::int64_t fit = 0, too_large = 1;
  while (fits(too_large)) {
    fit = too_large;
    too_large *= 2;
  }
  while (too_large - fit > 1) {
    const std::int64_t middle = fit + (too_large - fit) / 2;
    (fits(middle) ? fit : too_large) = middle;
  }
  return fit;
}

}  // namespace gpt2train
