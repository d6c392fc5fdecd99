#include "gpt2train/tokenizer/meta.h"

#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/bpe.h"
#include "gpt2train/tokenizer/unicode.h"
#include "src/data/pickle_reader.h"
#include "src/data/pickle_writer.h"
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

std::string utf8_of(char32_t code) {
  std::string text;
  append_utf8(text, code);
  return text;
}

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
        throw DataError(path_,
                        concat("the vocabulary lacks the character \"", utf8_of(code), "\" (U+",
                               std::hex, std::uppercase, static_cast<std::uint32_t>(code), ")"));
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

// Of token number `token`; no text stands for what is none.
char32_t only_character(const std::string& path, std::int64_t token,
                        std::optional<std::string_view> text) {
  if (text && !text->empty() && valid_utf8_prefix(*text) == text->size()) {
    const Character character = first_character(text->data());
    if (character.bytes == text->size()) return character.code;
  }
  throw DataError(path, concat("itos has for token ", token, " not one character"));
}

// ---- meta.pkl -----------------------------------------------------------------------------------

const Pickle::Items& dict_of(const std::string& path, const Pickle& pickle, const char* name) {
  const std::optional<Pickle::Ref> found = pickle.find(pickle.root(), name);
  const Pickle::Items* items = found ? pickle.dict(*found) : nullptr;
  if (items == nullptr) throw DataError(path, concat("expected a dict with a dict \"", name, '"'));
  return *items;
}

// By itos, of which stoi must be the reverse: nanoGPT writes text by the one and reads it by the
// other.
std::u32string characters_of_pickle(const std::string& text, const std::string& path) {
  const Pickle pickle(path, std::as_bytes(std::span(text)), 0);
  const Pickle::Items& itos = dict_of(path, pickle, "itos");
  std::map<std::int64_t, char32_t> numbered;
  for (const auto& [key, value] : itos) {
    const std::int64_t token = pickle.integer(key).value_or(-1);
    if (token < 0 || token >= std::ssize(itos) || numbered.contains(token)) {
      throw DataError(path, concat("itos: expected each of 0 to ", itos.size() - 1, " once"));
    }
    numbered[token] = only_character(path, token, pickle.text(value));
  }
  std::map<std::int64_t, char32_t> reversed;
  for (const auto& [key, value] : dict_of(path, pickle, "stoi")) {
    const std::int64_t token = pickle.integer(value).value_or(-1);
    reversed[token] = only_character(path, token, pickle.text(key));
  }
  if (reversed != numbered) throw DataError(path, "stoi is not the reverse of itos");
  std::u32string characters;
  for (const auto& [token, code] : numbered) characters += code;
  return characters;
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
  for (const char32_t code : characters) itos.push_back(utf8_of(code));
  return concat("{\"kind\": \"char\", \"vocab_size\": ", characters.size(),
                ", \"itos\": ", itos.dump(-1, ' ', true), "}\n");
}

std::string character_pickle(const std::u32string& characters) {
  PickleWriter pickle;
  pickle.begin_dict();
  pickle.text("vocab_size");
  pickle.integer(std::ssize(characters));
  for (const bool by_token : {true, false}) {
    pickle.text(by_token ? "itos" : "stoi");
    pickle.begin_dict();
    for (std::size_t token = 0; token < characters.size(); ++token) {
      if (by_token) pickle.integer(static_cast<std::int64_t>(token));
      pickle.text(utf8_of(characters[token]));
      if (!by_token) pickle.integer(static_cast<std::int64_t>(token));
    }
    pickle.end_dict();
  }
  pickle.end_dict();
  return pickle.finish();
}

std::unique_ptr<Tokenizer> parse_meta(const std::string& text, const std::string& path) {
  if (text.starts_with('\x80')) {
    return make_character_tokenizer(characters_of_pickle(text, path), path);
  }
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {
    throw DataError(path, error.what());
  }
  const auto is = [&](const char* kind) {
    return json.is_object() && json.contains("kind") && json["kind"] == kind;
  };
  if (is("bytes")) return make_byte_tokenizer();
  if (!is("char") || !json.contains("itos") || !json["itos"].is_array()) {
    throw DataError(path, "expected the kind \"bytes\", or \"char\" with a list \"itos\"");
  }
  std::u32string characters;
  for (const Json& item : json["itos"]) {
    std::optional<std::string_view> character;
    if (item.is_string()) character = item.get_ref<const std::string&>();
    characters += only_character(path, std::ssize(characters), character);
  }
  return make_character_tokenizer(characters, path);
}

std::unique_ptr<Tokenizer> load_meta(const std::string& path) {
  return parse_meta(read_small_file(path), path);
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& directory) {
  for (const char* name : {"/meta.json", "/meta.pkl"}) {
    if (exists(directory + name)) return load_meta(directory + name);
  }
  return make_bpe_tokenizer(load_vocabulary(directory));
}

}  // namespace gpt2train
