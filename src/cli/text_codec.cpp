#include "src/cli/text_codec.h"

#include <charconv>

#include "gpt2train/core/error.h"

namespace gpt2train {
namespace {

class ByteCodec final : public TextCodec {
 public:
  std::vector<std::int32_t> encode(const std::string& text, const char* where) const override {
    if (text.empty()) throw ConfigError(where, "is empty: give at least one character");
    std::vector<std::int32_t> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  std::string decode(std::int32_t token) const override {
    return std::string(1, static_cast<char>(token));
  }
  std::optional<std::int32_t> end_of_text() const override { return std::nullopt; }
};

class NumberCodec final : public TextCodec {
 public:
  explicit NumberCodec(std::int64_t vocab_size) : vocab_size_(vocab_size) {}

  // Nothing but white space is token 0.
  std::vector<std::int32_t> encode(const std::string& text, const char* where) const override {
    if (text.empty()) throw ConfigError(where, "is empty: give at least one token");
    std::vector<std::int32_t> tokens;
    const char* at = text.data();
    const char* const end = at + text.size();
    const auto separates = [](char c) { return c == ' ' || c == ',' || c == '\n' || c == '\t'; };
    while (at != end) {
      if (separates(*at)) {
        ++at;
        continue;
      }
      std::int32_t token = 0;
      const auto [next, error] = std::from_chars(at, end, token);
      if (error != std::errc{} || (next != end && !separates(*next)) || token < 0 ||
          token >= vocab_size_) {
        throw ConfigError(where,
                          concat("this model's data was not bytes: give token numbers from 0 to ",
                                 vocab_size_ - 1, ", such as ", where, "=\"15 27\""));
      }
      tokens.push_back(token);
      at = next;
    }
    if (tokens.empty()) tokens.push_back(0);
    return tokens;
  }
  std::string decode(std::int32_t token) const override { return std::to_string(token) + ' '; }
  std::optional<std::int32_t> end_of_text() const override {
    constexpr std::int32_t kGpt2 = 50256;
    return vocab_size_ > kGpt2 ? std::optional(kGpt2) : std::nullopt;
  }

 private:
  std::int64_t vocab_size_;
};

}  // namespace

std::unique_ptr<TextCodec> text_codec(const RunConfig& config) {
  if (config.data.format == TokenFormat::kBytes) return std::make_unique<ByteCodec>();
  return std::make_unique<NumberCodec>(config.model.vocab_size);
}

}  // namespace gpt2train
