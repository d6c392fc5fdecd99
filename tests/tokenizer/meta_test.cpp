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
            "/meta.json: itos has \"bc\", expected one character");
  EXPECT_EQ(error_of(R"({"kind": "char", "itos": ["a", 7]})"),
            "/meta.json: itos has 7, expected one character");
  EXPECT_EQ(error_of(R"({"kind": "char", "itos": ["a", "a"]})"),
            "/meta.json: character 1 is there already");
  EXPECT_NE(error_of("{"), "none");
}

}  // namespace
}  // namespace gpt2train
