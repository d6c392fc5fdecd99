#include "src/run/text_codec.h"

#include <charconv>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/tokenizer.h"

namespace gpt2train {
namespace {

class ByteCodec final : public TextCodec {
 public:
  std::vector<std::int32_t> encode(const std::string& text, const std::string& where) override {
    if (text.empty()) throw ConfigError(where, "is empty: give at least one character");
    std::vector<std::int32_t> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  // A model may have more tokens than there are bytes.
  std::string decode(std::int32_t token) const override {
    return token < 256 ? std::string(1, static_cast<char>(token)) : "";
  }
  std::optional<std::int32_t> end_of_text() const override { return std::nullopt; }
};

class NumberCodec final : public TextCodec {
 public:
  explicit NumberCodec(std::int64_t vocab_size) : vocab_size_(vocab_size) {}

  // Nothing but white space is token 0.
  std::vector<std::int32_t> encode(const std::string& text, const std::string& where) override {
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

class VocabularyCodec final : public TextCodec {
 public:
  explicit VocabularyCodec(std::unique_ptr<Tokenizer> tokenizer)
      : tokenizer_(std::move(tokenizer)), encoder_(tokenizer_->make_encoder()) {}

  std::vector<std::int32_t> encode(const std::string& text, const std::string& where) override {
    std::vector<Token> tokens;
    encoder_->encode(text, SpecialTokens::kRecognise, tokens);
    if (tokens.empty()) throw ConfigError(where, "is empty: give at least one character");
    return {tokens.begin(), tokens.end()};
  }
  // A model may have more tokens than the vocabulary, which nothing stands for.
  std::string decode(std::int32_t token) const override {
    if (token >= tokenizer_->vocab_size()) return "";
    return std::string(tokenizer_->bytes_of(static_cast<Token>(token)));
  }
  std::optional<std::int32_t> end_of_text() const override { return tokenizer_->end_of_text(); }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Encoder> encoder_;
};

}  // namespace

std::unique_ptr<TextCodec> text_codec(const RunConfig& config, const std::string& vocab) {
  if (!vocab.empty()) {
    std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(vocab);
    if (tokenizer->vocab_size() > config.model.vocab_size) {
      throw ConfigError(vocab, concat("has ", tokenizer->vocab_size(), " tokens, the model ",
                                      config.model.vocab_size));
    }
    return std::make_unique<VocabularyCodec>(std::move(tokenizer));
  }
  if (config.data.format == TokenFormat::kBytes) return std::make_unique<ByteCodec>();
  return std::make_unique<NumberCodec>(config.model.vocab_size);
}

}  // namespace gpt2train
