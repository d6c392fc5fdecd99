#include "gpt2train/train/sampling.h"

#include <algorithm>

namespace gpt2train {
namespace {

// One token more for each text that goes on; false when none does.
bool draw_tokens(const SamplingTask& task, const Generator& generator, std::int64_t first,
                 std::int64_t index, std::vector<std::int32_t>& tokens, std::vector<bool>& ended) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (ended[i]) continue;
    const auto text = static_cast<std::int64_t>(i);
    const auto token = task.next(first + text, index, generator.logits(text));
    if (token) tokens[i] = *token;
    ended[i] = !token;
  }
  return std::find(ended.begin(), ended.end(), false) != ended.end();
}

void sample_together(const InferenceModel& model, const SamplingTask& task, std::int64_t first,
                     std::int64_t count) {
  const CachingAllocator& memory = model.exec.memory();
  const bool dry = model.exec.dry_run();
  const std::int64_t prompt = std::ssize(task.prompt);
  Generator generator(model, count, prompt + task.max_new_tokens - 1, task.caching);
  generator.start(task.prompt);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  std::vector<bool> ended(tokens.size());
  for (std::int64_t index = 0;; ++index) {
    if (!dry && !draw_tokens(task, generator, first, index, tokens, ended)) break;
    if (index + 1 == task.max_new_tokens) break;
    const std::uint64_t generation = memory.segment_generation();
    generator.append(tokens);
    // Whole windows are all alike: a repeat that moved no segment would go on so.
    const bool whole = prompt + index > model.config.model.block_size;
    if (dry && whole && memory.segment_generation() == generation) break;
  }
  if (dry || !task.done) return;
  for (std::int64_t i = 0; i < count; ++i) task.done(first + i);
}

}  // namespace

void sample_texts(const InferenceModel& model, const SamplingTask& task, std::int64_t at_once) {
  const CachingAllocator& memory = model.exec.memory();
  const std::int64_t rest = task.num_samples % at_once, whole = task.num_samples - rest;
  for (std::int64_t first = 0; first < whole; first += at_once) {
    const std::uint64_t generation = memory.segment_generation();
    sample_together(model, task, first, at_once);
    if (model.exec.dry_run() && memory.segment_generation() == generation) break;
  }
  if (rest > 0) sample_together(model, task, whole, rest);
}

}  // namespace gpt2train
