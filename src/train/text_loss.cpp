#include "gpt2train/train/text_loss.h"

#include <algorithm>

#include "gpt2train/train/sequence_losses.h"

namespace gpt2train {

// Prediction p is of token p + 1.
TextLoss text_loss(const InferenceModel& model, const TokenText& text, std::int64_t stride,
                   std::int64_t rows) {
  const std::int64_t T = model.config.model.block_size, predictions = text.count - 1;
  GPT2_CHECK(predictions > 0, "a text of ", text.count, " tokens");
  GPT2_CHECK(stride >= 1 && stride <= T, "stride ", stride, ", windows of ", T);
  const std::int64_t windows =
      1 + (std::max(predictions - T, std::int64_t{0}) + stride - 1) / stride;

  const CachingAllocator& memory = model.exec.memory();
  TextLoss loss;
  std::vector<std::int32_t> tokens;
  const auto run = [&](std::int64_t first_window, std::int64_t count) {
    SequenceBatch batch(count, T);
    for (std::int64_t row = 0; row < count && !model.exec.dry_run(); ++row) {
      const std::int64_t window = first_window + row, begin = window * stride;
      const std::int64_t end = std::min(begin + T, predictions);
      const std::int64_t counted = window == 0 ? 0 : begin - stride + T;
      tokens.resize(static_cast<std::size_t>(end - begin + 1));
      text.read(begin, tokens);
      std::copy(tokens.begin(), tokens.end() - 1, batch.inputs.begin() + row * T);
      std::copy(tokens.begin() + (counted - begin + 1), tokens.end(),
                batch.targets.begin() + row * T + (counted - begin));
    }
    const std::vector<float> losses = sequence_losses(model, batch);
    for (std::size_t i = 0; i < losses.size(); ++i) {
      if (batch.targets[i] < 0) continue;
      loss.sum += double{losses[i]};
      ++loss.tokens;
    }
  };
  const std::int64_t rest = windows % rows, whole = windows - rest;
  for (std::int64_t first = 0; first < whole; first += rows) {
    const std::uint64_t generation = memory.segment_generation();
    run(first, rows);
    // A repeat that moved no segment would go on so.
    if (model.exec.dry_run() && first > 0 && memory.segment_generation() == generation) break;
  }
  if (rest > 0) run(whole, rest);
  return loss;
}

}  // namespace gpt2train
