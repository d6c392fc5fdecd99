#include "gpt2train/train/evaluation_sample.h"

#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/train/sampling.h"

namespace gpt2train {

std::string write_sample(const InferenceModel& model, const SampleText& sample) {
  const std::int64_t tokens = model.config.evaluation.sample_tokens;
  if (tokens == 0) return {};
  GPT2_CHECK(model.exec.dry_run() || (sample.next && sample.text_of), "no way to write a sample");
  std::vector<std::int32_t> written;
  SamplingTask task{.prompt = {sample.first_token}, .max_new_tokens = tokens};
  task.next = [&](std::int64_t, std::int64_t index, std::span<const float> logits) {
    const std::optional<std::int32_t> token = sample.next(index, logits);
    if (token) written.push_back(*token);
    return token;
  };
  sample_texts(model, task, 1);
  return model.exec.dry_run() ? std::string() : sample.text_of(written);
}

}  // namespace gpt2train
