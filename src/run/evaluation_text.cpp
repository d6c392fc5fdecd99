#include "src/run/evaluation_text.h"

#include <filesystem>
#include <memory>

#include "gpt2train/run/draw.h"
#include "gpt2train/tokenizer/unicode.h"
#include "src/run/text_codec.h"

namespace gpt2train {
namespace {

// Of tokens that `tokenize`, or nanoGPT's prepare.py, made of characters or bytes. Empty: none.
std::string vocabulary_of(const DataConfig& data) {
  if (!data.vocab.empty()) return data.vocab;
  std::filesystem::path beside = std::filesystem::path(data.train).parent_path();
  if (beside.empty()) beside = ".";
  const bool there =
      std::filesystem::exists(beside / "meta.json") || std::filesystem::exists(beside / "meta.pkl");
  return there ? beside.string() : "";
}

}  // namespace

SampleText evaluation_text(const RunConfig& config, const std::function<bool()>& stop) {
  if (config.evaluation.sample_tokens == 0) return {};
  const std::shared_ptr<TextCodec> codec = text_codec(config, vocabulary_of(config.data));
  const auto first = codec->end_of_text();
  return {.first_token = first ? *first : codec->encode("\n", "evaluation.sample_tokens").front(),
          .next = [draw = DrawSettings{.seed = config.seed}, stop](
                      std::int64_t index,
                      std::span<const float> logits) -> std::optional<std::int32_t> {
            if (stop && stop()) return std::nullopt;
            return draw_token(logits, draw, 0, index);
          },
          .text_of =
              [codec](std::span<const std::int32_t> tokens) {
                std::string text;
                for (const std::int32_t token : tokens) text += codec->decode(token);
                return replace_invalid_utf8(text);
              }};
}

}  // namespace gpt2train
