#include "gpt2train/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/scanner.h"
#include "gpt2train/tokenizer/unicode.h"
#include "src/tokenizer/merger.h"

namespace gpt2train {
namespace {

// Tokens of pieces seen before. A text says the same words again and again, and what is found here
// takes no merging. A piece has one place, and the newest one keeps it.
class PieceCache {
 public:
  static constexpr std::size_t kMostBytes = 31;
  static constexpr std::size_t kMostTokens = 15;

  // A piece with zeros behind and its length in the last byte, so that no two are alike.
  struct Key {
    std::array<std::uint64_t, 4> words{};

    explicit Key(std::string_view piece) {
      std::array<char, 32> bytes{};
      std::memcpy(bytes.data(), piece.data(), piece.size());
      bytes.back() = static_cast<char>(piece.size());
      std::memcpy(words.data(), bytes.data(), sizeof words);
    }
    Key() = default;
    bool operator==(const Key&) const = default;
  };

  struct Entry {
    Key key;  // all zeros, of no piece, where nothing is kept
    std::array<Token, kMostTokens> tokens;
    std::uint16_t count = 0;
  };

  PieceCache() : entries_(kEntries) {}
  Entry& entry_of(const Key& key) {
    std::uint64_t hash = 0;
    for (const std::uint64_t word : key.words)
      hash = (std::rotl(hash, 29) ^ word) * 0x9E3779B97F4A7C15u;
    return entries_[hash >> (64 - kBits)];
  }

 private:
  static constexpr int kBits = 16;
  static constexpr std::size_t kEntries = std::size_t{1} << kBits;
  std::vector<Entry> entries_;  // 4 MiB
};

class BpeEncoder final : public Encoder {
 public:
  BpeEncoder(const Vocabulary& vocabulary, const MergeTable& table)
      : end_of_text_(vocabulary.end_of_text), merger_(vocabulary.byte_tokens, table) {}

  void encode(std::string_view text, SpecialTokens special, std::vector<Token>& tokens) override {
    GPT2_CHECK(text.size() <= kMostTextBytes, "a text of ", text.size(), " bytes");
    std::string repaired;
    if (valid_utf8_prefix(text) != text.size()) text = repaired = replace_invalid_utf8(text);
    while (special == SpecialTokens::kRecognise) {
      const std::size_t at = text.find(kEndOfText);
      if (at == std::string_view::npos) break;
      encode_valid(text.substr(0, at), tokens);
      tokens.push_back(end_of_text_);
      text.remove_prefix(at + kEndOfText.size());
    }
    encode_valid(text, tokens);
  }

 private:
  void encode_valid(std::string_view text, std::vector<Token>& tokens) {
    while (!text.empty()) {
      const std::size_t length = first_piece(text);
      encode_piece(text.substr(0, length), tokens);
      text.remove_prefix(length);
    }
  }

  void encode_piece(std::string_view piece, std::vector<Token>& tokens) {
    if (piece.size() > PieceCache::kMostBytes) return merger_.merge(piece, tokens);
    const PieceCache::Key key(piece);
    PieceCache::Entry& entry = cache_.entry_of(key);
    if (entry.key == key) {
      tokens.insert(tokens.end(), entry.tokens.begin(), entry.tokens.begin() + entry.count);
      return;
    }
    const std::size_t before = tokens.size();
    merger_.merge(piece, tokens);
    const std::size_t count = tokens.size() - before;
    if (count > PieceCache::kMostTokens) return;
    entry.key = key;
    entry.count = static_cast<std::uint16_t>(count);
    std::copy(tokens.end() - static_cast<std::ptrdiff_t>(count), tokens.end(),
              entry.tokens.begin());
  }

  Token end_of_text_;
  Merger merger_;
  PieceCache cache_;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(Vocabulary vocabulary)
      : vocabulary_(std::move(vocabulary)), table_(vocabulary_.merges) {}

  std::int64_t vocab_size() const override { return std::ssize(vocabulary_.tokens); }
  std::optional<Token> end_of_text() const override { return vocabulary_.end_of_text; }
  std::string_view bytes_of(Token token) const override { return vocabulary_.tokens[token]; }
  std::unique_ptr<Encoder> make_encoder() const override {
    return std::make_unique<BpeEncoder>(vocabulary_, table_);
  }

 private:
  Vocabulary vocabulary_;
  MergeTable table_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(Vocabulary vocabulary) {
  return std::make_unique<BpeTokenizer>(std::move(vocabulary));
}

}  // namespace gpt2train
