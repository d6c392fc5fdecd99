#include "gpt2train/tokenizer/meta.h"

#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/bpe.h"
#include "gpt2train/tokenizer/unicode.h"
#include "src/tokenizer/files.h"

namespace gpt2train {
namespace {

using Json = nlohmann::json;

// ---- bytes --------------------------------------------------------------------------------------

class ByteEncoder final : public Encoder {
 public:
  void encode(std::string_view text, SpecialTokens, std::vector<Token>& tokens) override {
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
  }
};

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (std::size_t byte = 0; byte < bytes_.size(); ++byte) bytes_[byte] = static_cast<char>(byte);
  }
  std::int64_t vocab_size() const override { return 256; }
  std::optional<Token> end_of_text() const override { return std::nullopt; }
  std::string_view bytes_of(Token token) const override { return {&bytes_[token], 1}; }
  std::unique_ptr<Encoder> make_encoder() const override { return std::make_unique<ByteEncoder>(); }

 private:
  std::array<char, 256> bytes_{};
};

// ---- characters ---------------------------------------------------------------------------------

template <class Use>
void for_each_character(std::string_view text, Use use) {
  std::string repaired;
  if (valid_utf8_prefix(text) != text.size()) text = repaired = replace_invalid_utf8(text);
  while (!text.empty()) {
    const Character character = first_character(text.data());
    use(character.code);
    text.remove_prefix(character.bytes);
  }
}

using TokenOf = std::unordered_map<char32_t, Token>;

class CharacterEncoder final : public Encoder {
 public:
  CharacterEncoder(const TokenOf& token_of, const std::string& path)
      : token_of_(token_of), path_(path) {}

  void encode(std::string_view text, SpecialTokens, std::vector<Token>& tokens) override {
    for_each_character(text, [&](char32_t code) {
      const auto found = token_of_.find(code);
      if (found == token_of_.end()) {
        std::string character;
        append_utf8(character, code);
        throw DataError(
            path_, concat("the vocabulary lacks the character \"", character, "\" (U+", std::hex,
                          std::uppercase, static_cast<std::uint32_t>(code), ")"));
      }
      tokens.push_back(found->second);
    });
  }

 private:
  const TokenOf& token_of_;
  const std::string& path_;
};

class CharacterTokenizer final : public Tokenizer {
 public:
  CharacterTokenizer(const std::u32string& characters, std::string path) : path_(std::move(path)) {
    const std::int64_t count = std::ssize(characters);
    if (count == 0 || count > kMostTokens) {
      throw DataError(path_, concat(count, " different characters, expected 1 to ", kMostTokens));
    }
    for (const char32_t code : characters) {
      if (!token_of_.emplace(code, static_cast<Token>(texts_.size())).second) {
        throw DataError(path_, concat("character ", texts_.size(), " is there already"));
      }
      append_utf8(texts_.emplace_back(), code);
    }
  }
  std::int64_t vocab_size() const override { return std::ssize(texts_); }
  std::optional<Token> end_of_text() const override { return std::nullopt; }
  std::string_view bytes_of(Token token) const override { return texts_[token]; }
  std::unique_ptr<Encoder> make_encoder() const override {
    return std::make_unique<CharacterEncoder>(token_of_, path_);
  }

 private:
  std::string path_;
  std::vector<std::string> texts_;
  TokenOf token_of_;
};

char32_t only_character(const std::string& path, const Json& text) {
  if (text.is_string()) {
    const auto& bytes = text.get_ref<const std::string&>();  // well-formed: it was parsed
    if (!bytes.empty()) {
      const Character character = first_character(bytes.data());
      if (character.bytes == bytes.size()) return character.code;
    }
  }
  throw DataError(path, concat("itos has ", text.dump(-1, ' ', true).substr(0, 40),
                               ", expected one character"));
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() {
  return std::make_unique<ByteTokenizer>();
}

void CharacterSet::add(std::string_view text) {
  for_each_character(text, [&](char32_t code) { seen_[code] = true; });
}

void CharacterSet::add(const CharacterSet& other) {
  for (std::size_t code = 0; code < seen_.size(); ++code) {
    if (other.seen_[code]) seen_[code] = true;
  }
}

std::u32string CharacterSet::sorted() const {
  std::u32string characters;
  for (std::size_t code = 0; code < seen_.size(); ++code) {
    if (seen_[code]) characters += static_cast<char32_t>(code);
  }
  return characters;
}

std::unique_ptr<Tokenizer> make_character_tokenizer(const std::u32string& characters,
                                                    const std::string& path) {
  return std::make_unique<CharacterTokenizer>(characters, path);
}

std::string byte_meta() {
  return "{\"kind\": \"bytes\", \"vocab_size\": 256}\n";
}

std::string character_meta(const std::u32string& characters) {
  Json itos = Json::array();
  for (const char32_t code : characters) {
    std::string character;
    append_utf8(character, code);
    itos.push_back(character);
  }
  return concat("{\"kind\": \"char\", \"vocab_size\": ", characters.size(),
                ", \"itos\": ", itos.dump(-1, ' ', true), "}\n");
}

std::unique_ptr<Tokenizer> load_meta(const std::string& path) {
  Json json;
  try {
    json = Json::parse(read_small_file(path));
  } catch (const Json::exception& error) {
    throw DataError(path, error.what());
  }
  const Json kind = json.is_object() && json.contains("kind") ? json["kind"] : Json();
  if (kind == "bytes") return make_byte_tokenizer();
  if (kind != "char" || !json.contains("itos") || !json["itos"].is_array()) {
    throw DataError(path, "expected the kind \"bytes\", or \"char\" with a list \"itos\"");
  }
  std::u32string characters;
  for (const Json& text : json["itos"]) characters += only_character(path, text);
  return make_character_tokenizer(characters, path);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& directory) {
  const std::string meta = directory + "/meta.json";
  return exists(meta) ? load_meta(meta) : make_bpe_tokenizer(load_vocabulary(directory));
}

}  // namespace gpt2train
