#include "src/cli/rules_of_thumb.h"

#include <limits>

#include "gpt2train/nanogpt/nanogpt.h"

namespace gpt2train {
namespace {

// Weights, gradients and both moments in float32: what nanoGPT keeps, whatever its dtype.
constexpr std::size_t kNanogptBytesPerParameter = 16;

std::size_t nanogpt_peak(const RunConfig& config) {
  constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max() / 16;
  const NanogptRun run{.model = config.model,
                       .batch_size = config.training.batch_size,
                       .gradient_accumulation_steps = config.training.gradient_accumulation_steps,
                       .dtype = config.dtype,
                       .form = NanogptForm::kCompiled};
  return simulate_nanogpt(run, kNoLimit, TorchSegments::kClassic).stats.peak_allocated_bytes;
}

// What outlives a step.
std::size_t lasting_bytes(const TagBytes& bytes) {
  std::size_t sum = 0;
  for (const Tag tag : {Tag::kWeights, Tag::kMasterWeights, Tag::kGradients, Tag::kOptimizer}) {
    sum += bytes[static_cast<std::size_t>(tag)];
  }
  return sum;
}

}  // namespace

std::vector<RuleOfThumb> rules_of_thumb(const RunConfig& config, const Prediction& prediction) {
  const ModelConfig& model = config.model;
  const auto counted = [](std::int64_t count) { return static_cast<std::size_t>(count); };
  const std::size_t parameters =
      counted(12 * model.n_layer * model.n_embd * model.n_embd + model.n_embd * model.vocab_size);
  const std::size_t elements =
      counted(config.training.batch_size * model.block_size * model.n_embd * model.n_layer);

  const std::size_t ours = prediction.stats.peak_allocated_bytes;
  const std::size_t ours_lasting = lasting_bytes(prediction.stats.by_tag_at_peak);
  const std::size_t nanogpt = nanogpt_peak(config);
  const std::size_t nanogpt_lasting = kNanogptBytesPerParameter * counted(parameter_count(model));

  const RuleOfThumb lasting{.of = "weights, gradients, AdamW",
                            .formula = "(12 n_layer n_embd^2 + n_embd vocab_size) x 10 to 20",
                            .low_bytes = parameters * 10,
                            .high_bytes = parameters * 20,
                            .ours_bytes = ours_lasting,
                            .nanogpt_bytes = nanogpt_lasting};
  const RuleOfThumb activations{.of = "activations",
                                .formula = "batch_size block_size n_embd n_layer x 2 x (24 to 160)",
                                .low_bytes = elements * 2 * 24,
                                .high_bytes = elements * 2 * 160,
                                .ours_bytes = ours - ours_lasting,
                                .nanogpt_bytes = nanogpt - std::min(nanogpt, nanogpt_lasting)};
  return {lasting, activations,
          RuleOfThumb{.of = "together",
                      .formula = "",
                      .low_bytes = lasting.low_bytes + activations.low_bytes,
                      .high_bytes = lasting.high_bytes + activations.high_bytes,
                      .ours_bytes = ours,
                      .nanogpt_bytes = nanogpt}};
}

}  // namespace gpt2train
