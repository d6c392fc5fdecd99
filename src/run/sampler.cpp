#include "gpt2train/run/sampler.h"

#include "gpt2train/core/error.h"
#include "gpt2train/train/sampling.h"
#include "src/run/text_codec.h"
#include "src/run/trained_model.h"

namespace gpt2train {

struct Sampler::Model {
  Model(const ModelSource& source, const std::string& vocab)
      : trained(source, [this](const std::string& note) { notes.push_back(note); }),
        codec(text_codec(trained.config(), vocab)),
        weights(trained.load()) {}

  std::vector<std::string> notes;  // before what adds to them
  TrainedModel trained;
  const std::unique_ptr<TextCodec> codec;
  const InferenceModel weights;
};

Sampler::Sampler(const ModelSource& source, const std::string& vocab)
    : model_(std::make_unique<Model>(source, vocab)) {}

Sampler::~Sampler() = default;

const RunConfig& Sampler::config() const {
  return model_->trained.config();
}

const std::vector<std::string>& Sampler::notes() const {
  return model_->notes;
}

std::string Sampler::sample(const SampleRequest& request,
                            const std::function<void(std::string_view)>& on_piece) const {
  if (request.max_new_tokens < 1) {
    throw ConfigError("max_new_tokens",
                      concat("is ", request.max_new_tokens, ", expected 1 or more"));
  }
  if (!(request.draw.temperature >= 0.0)) {
    throw ConfigError("temperature",
                      concat("is ", request.draw.temperature, ", expected 0 or more"));
  }
  TextCodec& codec = *model_->codec;
  const auto end_of_text = request.stop_at_eot ? codec.end_of_text() : std::nullopt;
  if (request.stop_at_eot && !end_of_text) {
    throw ConfigError("stop_at_eot", "this model has no token for the end of a text");
  }
  std::string text;
  const SamplingTask task{
      .prompt = codec.encode(request.prompt, "prompt"),
      .max_new_tokens = request.max_new_tokens,
      .next = [&](std::int64_t sample, std::int64_t index,
                  std::span<const float> logits) -> std::optional<std::int32_t> {
        const std::int32_t token = draw_token(logits, request.draw, sample, index);
        if (token == end_of_text) return std::nullopt;
        const std::string piece = codec.decode(token);
        text += piece;
        if (on_piece) on_piece(piece);
        return token;
      }};
  sample_texts(model_->weights, task, 1);
  return text;
}

}  // namespace gpt2train
