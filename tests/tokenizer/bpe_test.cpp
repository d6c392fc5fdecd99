#include "gpt2train/tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "gpt2train/tokenizer/scanner.h"
#include "gpt2train/tokenizer/unicode.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using Tokens = std::vector<Token>;
using Json = nlohmann::json;

// As the paper has it: apply the earliest merge that there is, everywhere, until none is left.
Tokens merge_slowly(const Vocabulary& vocabulary, std::string_view piece) {
  Tokens tokens;
  for (const char byte : piece)
    tokens.push_back(vocabulary.byte_tokens[static_cast<unsigned char>(byte)]);
  for (const Merge& merge : vocabulary.merges) {  // later merges make no earlier one possible
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      if (tokens[i] != merge.left || tokens[i + 1] != merge.right) continue;
      tokens[i] = merge.result;
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
  }
  return tokens;
}

std::string random_text(std::mt19937& random, std::size_t length) {
  std::string text;
  while (text.size() < length) text += "aabbc "[random() % 6];
  return text;
}

// Merges that build on each other: each is of two neighbours of a text, as the ones before left it.
Vocabulary small_vocabulary() {
  std::mt19937 random(7);
  std::vector<Merge> merges;
  while (merges.size() < 60) {
    const Tokens tokens = merge_slowly(make_vocabulary(merges), random_text(random, 40));
    const std::size_t place = random() % (tokens.size() - 1);
    std::vector<Merge> more = merges;
    more.push_back({tokens[place], tokens[place + 1], static_cast<Token>(256 + merges.size())});
    const std::vector<std::string> texts = make_vocabulary(more).tokens;
    const std::string& made = texts[texts.size() - 2];
    if (std::count(texts.begin(), texts.end(), made) == 1) merges = more;
  }
  return make_vocabulary(merges);
}

Tokens encode(const Tokenizer& tokenizer, std::string_view text,
              SpecialTokens special = SpecialTokens::kAsText) {
  Tokens tokens;
  tokenizer.make_encoder()->encode(text, special, tokens);
  return tokens;
}

std::string decode(const Tokenizer& tokenizer, const Tokens& tokens) {
  std::string text;
  for (const Token token : tokens) text += tokenizer.bytes_of(token);
  return text;
}

TEST(Bpe, MergesAsTheDefinitionSays) {
  const Vocabulary vocabulary = small_vocabulary();
  const auto tokenizer = make_bpe_tokenizer(vocabulary);
  const auto encoder = tokenizer->make_encoder();
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_text(random, random() % (i % 10 == 0 ? 200 : 12));
    Tokens wanted;
    for (std::string_view rest = text; !rest.empty();) {
      const std::size_t piece = first_piece(rest);
      const Tokens tokens = merge_slowly(vocabulary, rest.substr(0, piece));
      wanted.insert(wanted.end(), tokens.begin(), tokens.end());
      rest.remove_prefix(piece);
    }
    Tokens tokens;
    encoder->encode(text, SpecialTokens::kAsText,
                    tokens);  // one encoder: its cache is tested as well
    ASSERT_EQ(tokens, wanted) << '"' << text << '"';
    ASSERT_EQ(decode(*tokenizer, tokens), text);
  }
}

TEST(Bpe, RecognisesEndOfTextOnlyWhenAsked) {
  const auto tokenizer = make_bpe_tokenizer(small_vocabulary());
  const Token end = *tokenizer->end_of_text();
  EXPECT_EQ(end, 316);
  const Tokens words = encode(*tokenizer, "ab");
  Tokens wanted = words;
  wanted.push_back(end);
  wanted.insert(wanted.end(), words.begin(), words.end());
  wanted.push_back(end);
  EXPECT_EQ(encode(*tokenizer, "ab<|endoftext|>ab<|endoftext|>", SpecialTokens::kRecognise),
            wanted);
  const Tokens plain = encode(*tokenizer, "ab<|endoftext|>");
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  EXPECT_EQ(decode(*tokenizer, plain), "ab<|endoftext|>");
}

TEST(Bpe, ReadsWhiteSpaceBeforeEndOfTextAsIfNothingFollowed) {
  const auto tokenizer = make_bpe_tokenizer(small_vocabulary());
  Tokens wanted = encode(*tokenizer, "a   ");
  wanted.push_back(*tokenizer->end_of_text());
  EXPECT_EQ(encode(*tokenizer, "a   <|endoftext|>", SpecialTokens::kRecognise), wanted);
}

TEST(Bpe, ReplacesWhatIsNotUtf8) {
  const auto tokenizer = make_bpe_tokenizer(small_vocabulary());
  EXPECT_EQ(encode(*tokenizer,
                   "a\xFF"
                   "b\xE2\x82"),
            encode(*tokenizer,
                   "a\uFFFD"
                   "b\uFFFD"));
}

// Quadratic merging would take hours.
TEST(Bpe, EncodesAMillionEqualCharacters) {
  const Vocabulary vocabulary = small_vocabulary();
  const auto tokenizer = make_bpe_tokenizer(vocabulary);
  for (const char* unit : {"a", " ", "ab", "\u65E5"}) {
    std::string text;
    while (text.size() < 1000000) text += unit;
    EXPECT_EQ(decode(*tokenizer, encode(*tokenizer, text)), text);
  }
}

TEST(Bpe, EncodesNothingAsNothing) {
  EXPECT_TRUE(encode(*make_bpe_tokenizer(small_vocabulary()), "").empty());
}

// ---- against OpenAI's encoder and tiktoken ------------------------------------------------------

class Gpt2 : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::ifstream(kDirectory + "vocab.bpe")) GTEST_SKIP() << "no reference data";
    tokenizer_ = load_tokenizer(kDirectory);
  }
  static std::vector<Json> lines(const std::string& name) {
    std::ifstream file(kDirectory + name);
    std::vector<Json> found;
    for (std::string line; std::getline(file, line);) found.push_back(Json::parse(line));
    EXPECT_FALSE(found.empty()) << name;
    return found;
  }
  static std::string from_hex(const std::string& hex) {
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    return bytes;
  }

  inline static const std::string kDirectory = GPT2TRAIN_GOLDEN_DIR "/gpt2_bpe/";
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(Gpt2, EncodesAsTheReference) {
  for (const Json& line : lines("encodings.jsonl")) {
    const std::string text = line.at("text");
    EXPECT_EQ(encode(*tokenizer_, text), line.at("ids").get<Tokens>()) << line;
    EXPECT_EQ(decode(*tokenizer_, line.at("ids").get<Tokens>()), text);
  }
}

TEST_F(Gpt2, RecognisesSpecialTokensAsTheReference) {
  for (const Json& line : lines("encodings_special.jsonl")) {
    EXPECT_EQ(encode(*tokenizer_, line.at("text").get<std::string>(), SpecialTokens::kRecognise),
              line.at("ids").get<Tokens>())
        << line;
  }
}

TEST_F(Gpt2, EncodesInvalidBytesAsTheReference) {
  for (const Json& line : lines("encodings_bytes.jsonl")) {
    EXPECT_EQ(encode(*tokenizer_, from_hex(line.at("hex"))), line.at("ids").get<Tokens>()) << line;
  }
}

TEST_F(Gpt2, DecodesAsTheReference) {
  for (const Json& line : lines("decodings.jsonl")) {
    EXPECT_EQ(decode(*tokenizer_, line.at("ids").get<Tokens>()), from_hex(line.at("hex"))) << line;
  }
}

TEST_F(Gpt2, HasTheNumbersOfEncoderJsonWithoutIt) {
  const test::TempDir dir;
  test::write_file(dir / "vocab.bpe", test::read_file(kDirectory + "vocab.bpe"));
  const auto alone = load_tokenizer(dir.path());
  ASSERT_EQ(alone->vocab_size(), 50257);
  ASSERT_EQ(tokenizer_->vocab_size(), 50257);
  for (int token = 0; token < 50257; ++token) {
    EXPECT_EQ(alone->bytes_of(static_cast<Token>(token)),
              tokenizer_->bytes_of(static_cast<Token>(token)));
  }
  EXPECT_EQ(alone->end_of_text(), tokenizer_->end_of_text());
}

}  // namespace
}  // namespace gpt2train
