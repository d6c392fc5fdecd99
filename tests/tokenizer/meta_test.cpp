#include "gpt2train/tokenizer/meta.h"

#include <gtest/gtest.h>

#include "gpt2train/core/error.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::TempDir;
using test::write_file;
using Tokens = std::vector<Token>;

Tokens encode(const Tokenizer& tokenizer, std::string_view text) {
  Tokens tokens;
  tokenizer.make_encoder()->encode(text, SpecialTokens::kAsText, tokens);
  return tokens;
}

std::string error_of(const std::string& meta) {
  const TempDir dir;
  write_file(dir / "meta.json", meta);
  try {
    load_meta(dir / "meta.json");
  } catch (const DataError& error) {
    return std::string(error.what()).substr(dir.path().size());
  }
  return "none";
}

TEST(Meta, CharactersAreNumberedByCodePoint) {
  CharacterSet set;
  set.add("na\u00EFve\n");
  set.add("\U0001F600 \xFF");
  EXPECT_EQ(set.sorted(), U"\n aenv\u00EF\uFFFD\U0001F600");
  const auto tokenizer = make_character_tokenizer(set.sorted(), "meta.json");
  EXPECT_EQ(tokenizer->vocab_size(), 9);
  EXPECT_EQ(encode(*tokenizer, "v\u00EFa \xFF\U0001F600"), (Tokens{5, 6, 2, 1, 7, 8}));
  EXPECT_EQ(tokenizer->bytes_of(6), "\u00EF");
  EXPECT_EQ(tokenizer->end_of_text(), std::nullopt);
}

TEST(Meta, CharactersAreTheSameWhenSavedAndRead) {
  const TempDir dir;
  write_file(dir / "meta.json", character_meta(U"\n\"\\a\u00EF\u2028\U0001F600"));
  const auto tokenizer = load_tokenizer(dir.path());
  EXPECT_EQ(encode(*tokenizer, "\U0001F600a\n"), (Tokens{6, 3, 0}));
}

// As Python's pickle.dumps(..., protocol=4) writes {'vocab_size': 3, 'itos': {0: '\n', 1: 'a',
// 2: '\u00e9'}, 'stoi': ...}: what was there before is said by its number.
using namespace std::string_literals;
const std::string kStart =
    "\x80\x04\x95\x4E\0\0\0\0\0\0\0}\x94(\x8C\nvocab_size\x94K\x03\x8C\x04itos\x94}\x94("s;
const std::string kItos = "K\0\x8C\x01\n\x94K\x01\x8C\x01\x61\x94K\x02\x8C\x02\xC3\xA9\x94"s;
const std::string kStoi = "u\x8C\x04stoi\x94}\x94("s;
const std::string kReversed = "h\x04K\0h\x05K\x01h\x06K\x02"s;

TEST(Meta, ReadsNanogptsPickle) {
  const TempDir dir;
  write_file(dir / "meta.pkl", kStart + kItos + kStoi + kReversed + "uu.");
  const auto tokenizer = load_tokenizer(dir.path());
  EXPECT_EQ(tokenizer->vocab_size(), 3);
  EXPECT_EQ(encode(*tokenizer, "\u00E9a\n"), (Tokens{2, 1, 0}));
  EXPECT_EQ(tokenizer->bytes_of(2), "\u00E9");
}

TEST(Meta, SaysWhatIsWrongWithAPickle) {
  const auto error = [](const std::string& itos, const std::string& rest) {
    try {
      parse_meta(kStart + itos + rest, "meta.pkl");
    } catch (const DataError& caught) {
      return std::string(caught.what());
    }
    return "none"s;
  };
  EXPECT_EQ(error(kItos, "uu."), "meta.pkl: expected a dict with a dict \"stoi\"");
  EXPECT_EQ(error(kItos, kStoi + "h\x04K\x01h\x05K\0h\x06K\x02uu."s),
            "meta.pkl: stoi is not the reverse of itos");
  EXPECT_EQ(error("K\x01\x8C\x01\x61"s, kStoi + "uu."),
            "meta.pkl: itos: expected each of 0 to 0 once");
  EXPECT_EQ(error("K\0\x8C\x02\x61\x61"s, kStoi + "uu."),
            "meta.pkl: itos has for token 0 not one character");
  EXPECT_EQ(error("K\0\x8C\x03\xED\xA0\x80"s, kStoi + "uu."),  // a surrogate
            "meta.pkl: itos has for token 0 not one character");
  EXPECT_EQ(error("", kStoi + "uu."), "meta.pkl: 0 different characters, expected 1 to 65536");
}

TEST(Meta, APickleIsReadAsWritten) {
  const TempDir dir;
  write_file(dir / "meta.pkl", character_pickle(U"\n\"\\a\u00EF\u2028\U0001F600"));
  const auto tokenizer = load_tokenizer(dir.path());
  EXPECT_EQ(encode(*tokenizer, "\U0001F600a\n"), (Tokens{6, 3, 0}));
}

TEST(Meta, ACharacterThatTheVocabularyLacksIsAnError) {
  const auto tokenizer = make_character_tokenizer(U"ab", "x/meta.json");
  try {
    encode(*tokenizer, "ab\u20AC");
    FAIL() << "was encoded";
  } catch (const DataError& error) {
    EXPECT_STREQ(error.what(),
                 "x/meta.json: the vocabulary lacks the character \"\u20AC\" (U+20AC)");
  }
}

TEST(Meta, BytesAreTheirOwnTokens) {
  const TempDir dir;
  write_file(dir / "meta.json", byte_meta());
  const auto tokenizer = load_tokenizer(dir.path());
  EXPECT_EQ(tokenizer->vocab_size(), 256);
  EXPECT_EQ(encode(*tokenizer, "a\xFF\n"), (Tokens{'a', 255, '\n'}));
  EXPECT_EQ(tokenizer->bytes_of(255), "\xFF");
}

TEST(Meta, SaysWhatIsWrongWithTheFile) {
  const char* const kind =
      "/meta.json: expected the kind \"bytes\", or \"char\" with a list \"itos\"";
  EXPECT_EQ(error_of("{}"), kind);
  EXPECT_EQ(error_of("[]"), kind);
  EXPECT_EQ(error_of(R"({"kind": "char", "itos": {"0": "a"}})"), kind);
  EXPECT_EQ(error_of(R"({"kind": "char", "itos": []})"),
            "/meta.json: 0 different characters, expected 1 to 65536");
  EXPECT_EQ(error_of(R"({"kind": "char", "itos": ["a", "bc"]})"),
            "/meta.json: itos has for token 1 not one character");
  EXPECT_EQ(error_of(R"({"kind": "char", "itos": ["a", 7]})"),
            "/meta.json: itos has for token 1 not one character");
  EXPECT_EQ(error_of(R"({"kind": "char", "itos": ["a", "a"]})"),
            "/meta.json: character 1 is there already");
  EXPECT_NE(error_of("{"), "none");
  // What is nested this deep must not be shown: writing it would take more stack than there is.
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_EQ(error_of(R"({"kind": "char", "itos": [)" + deep + "]}"),
            "/meta.json: itos has for token 0 not one character");
  EXPECT_EQ(error_of(R"({"itos": [], "kind": )" + deep + "}"), kind);
}

}  // namespace
}  // namespace gpt2train
