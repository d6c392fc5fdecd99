#include "gpt2train/tokenizer/scanner.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gpt2train {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces_of(std::string_view text) {
  Pieces pieces;
  while (!text.empty()) {
    pieces.emplace_back(text.substr(0, first_piece(text)));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

TEST(Scanner, KeepsASpaceWithTheWordBehindIt) {
  EXPECT_EQ(pieces_of("to be, 42!"), (Pieces{"to", " be", ",", " 42", "!"}));
  EXPECT_EQ(pieces_of("a1b"), (Pieces{"a", "1", "b"}));
}

TEST(Scanner, CutsContractionsOffInLowerCaseOnly) {
  EXPECT_EQ(pieces_of("I'm you're he'd"), (Pieces{"I", "'m", " you", "'re", " he", "'d"}));
  EXPECT_EQ(pieces_of("we've it's don't they'll"),
            (Pieces{"we", "'ve", " it", "'s", " don", "'t", " they", "'ll"}));
  EXPECT_EQ(pieces_of("IT'S"), (Pieces{"IT", "'", "S"}));
  EXPECT_EQ(pieces_of("it'l 'r'v"), (Pieces{"it", "'", "l", " '", "r", "'", "v"}));
}

TEST(Scanner, LetsAContractionEndInTheMiddleOfAWord) {
  EXPECT_EQ(pieces_of("'tis"), (Pieces{"'t", "is"}));
  EXPECT_EQ(pieces_of(" 'tis"), (Pieces{" '", "tis"}));
  EXPECT_EQ(pieces_of("!'s"), (Pieces{"!'", "s"}));
}

TEST(Scanner, LeavesTheLastOfSeveralSpacesToTheWord) {
  EXPECT_EQ(pieces_of("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(pieces_of("a\n\nb"), (Pieces{"a", "\n", "\n", "b"}));
  EXPECT_EQ(pieces_of("a \nb"), (Pieces{"a", " ", "\n", "b"}));
  EXPECT_EQ(pieces_of("a\n b"), (Pieces{"a", "\n", " b"}));
  EXPECT_EQ(pieces_of("a\tb"), (Pieces{"a", "\t", "b"}));
  EXPECT_EQ(pieces_of("\u3000\u2003b"), (Pieces{"\u3000", "\u2003", "b"}));  // of three bytes each
}

TEST(Scanner, TakesAllWhiteSpaceAtTheEnd) {
  EXPECT_EQ(pieces_of("a  \n "), (Pieces{"a", "  \n "}));
  EXPECT_EQ(pieces_of(" "), (Pieces{" "}));
  EXPECT_EQ(pieces_of("a "), (Pieces{"a", " "}));
}

TEST(Scanner, KnowsUnicodesWhiteSpace) {
  for (const char* space : {"\u0085", "\u00A0", "\u1680", "\u2000", "\u200A", "\u2028", "\u2029",
                            "\u202F", "\u205F", "\u3000", "\v", "\f", "\r"}) {
    const std::string text = std::string("!") + space + space + "!";
    EXPECT_EQ(pieces_of(text), (Pieces{"!", space, space, "!"}));
  }
}

TEST(Scanner, TakesWhatOnlyLooksEmptyForPunctuation) {
  for (const char* other : {"\uFEFF", "\u180E", "\u200B", "\x1C", "\x1F", "\u2060"}) {
    EXPECT_EQ(pieces_of(std::string("!") + other + "!"), (Pieces{std::string("!") + other + "!"}));
  }
}

TEST(Scanner, KnowsLettersAndNumbersOfOtherScripts) {
  EXPECT_EQ(pieces_of("na\u00EFve\u00B2"), (Pieces{"na\u00EFve", "\u00B2"}));
  EXPECT_EQ(pieces_of("\u65E5\u672C\u8A9E\uFF11"), (Pieces{"\u65E5\u672C\u8A9E", "\uFF11"}));
  EXPECT_EQ(pieces_of("\u0905\u093E"), (Pieces{"\u0905", "\u093E"}));  // a vowel sign is a mark
  EXPECT_EQ(pieces_of(" \U0001F600\u0301"), (Pieces{" \U0001F600\u0301"}));  // so is an accent
  EXPECT_EQ(pieces_of("\U000105C0a\U00010D40"),
            (Pieces{"\U000105C0a", "\U00010D40"}));  // Unicode 16
}

}  // namespace
}  // namespace gpt2train
