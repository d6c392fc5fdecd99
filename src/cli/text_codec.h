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
  virtual std::vector<std::int32_t> encode(const std::string& text, const char* where) const = 0;
  virtual std::string decode(std::int32_t token) const = 0;  // not always whole characters
  // The token between texts, where the model has one.
  virtual std::optional<std::int32_t> end_of_text() const = 0;
};

// Of a model that was trained on bytes: those. Of any other: token numbers, "15 27 3".
std::unique_ptr<TextCodec> text_codec(const RunConfig& config);

}  // namespace gpt2train
