// Between the text that people write and the tokens that a model reads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/train/run_config.h"

namespace gpt2train {

class TextCodec {
 public:
  virtual ~TextCodec() = default;
  // Not empty. Throws ConfigError, naming `where`, for what the model has no tokens for.
  virtual std::vector<std::int32_t> encode(const std::string& text, const std::string& where) = 0;
  virtual std::string decode(std::int32_t token) const = 0;  // not always whole characters
  // The token between texts, where the model has one.
  virtual std::optional<std::int32_t> end_of_text() const = 0;
};

// By the vocabulary in a directory (load_tokenizer), of which "<|endoftext|>" is one token. Without
// one, bytes where the model was trained on them, and else token numbers: "15 27 3". Throws
// ConfigError for a vocabulary that is larger than the model's, and what load_tokenizer throws.
std::unique_ptr<TextCodec> text_codec(const RunConfig& config, const std::string& vocab);

}  // namespace gpt2train
