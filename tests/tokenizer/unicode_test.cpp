#include "gpt2train/tokenizer/unicode.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace gpt2train {
namespace {

TEST(Utf8, ReplacesEachMaximalSubpart) {
  // Unicode 16, chapter 3, table 3-11 and the examples around it.
  EXPECT_EQ(replace_invalid_utf8("a\xF1\x80\x80\xE1\x80\xC2"
                                 "b\x80"
                                 "c\x80\xBF"
                                 "d"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
                                 "A"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
            "A");                                                         // overlong
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
  EXPECT_EQ(replace_invalid_utf8("\xF4\x90\x80\x80"),
            "\uFFFD\uFFFD\uFFFD\uFFFD");                      // above U+10FFFF
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x98"), "\uFFFD");  // cut off
}

TEST(Utf8, LeavesEveryWellFormedCharacterAlone) {
  std::string text;
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    const std::size_t before = text.size();
    append_utf8(text, code);
    const Character read = first_character(text.data() + before);
    ASSERT_EQ(read.code, code);
    ASSERT_EQ(read.bytes, text.size() - before);
  }
  EXPECT_EQ(valid_utf8_prefix(text), text.size());
  EXPECT_EQ(replace_invalid_utf8(text), text);
}

TEST(Utf8, FindsTheFirstBadByteWhereverItIs) {
  for (std::size_t place = 0; place < 40; ++place) {
    std::string text(40, 'x');
    text[place] = '\xFF';
    EXPECT_EQ(valid_utf8_prefix(text), place);
  }
}

TEST(Unicode, ClassesAreThoseOfTheReferenceOrOfLaterCharacters) {
  std::ifstream file(GPT2TRAIN_GOLDEN_DIR "/gpt2_bpe/unicode15_classes.json");
  if (!file) GTEST_SKIP() << "no reference data";
  const auto reference = nlohmann::json::parse(file);
  const auto compare = [&](const char* name, CharacterClass type, int later) {
    std::vector<bool> wanted(0x110000);
    for (const auto& range : reference.at(name)) {
      for (int code = range[0]; code <= range[1]; ++code)
        wanted[static_cast<std::size_t>(code)] = true;
    }
    int more = 0;
    for (char32_t code = 0; code < 0x110000; ++code) {
      const bool is = class_of(code) == type;
      ASSERT_TRUE(is || !wanted[code]) << name << " " << static_cast<std::uint32_t>(code);
      more += is && !wanted[code];
    }
    EXPECT_EQ(more, later) << name;
  };
  // The reference is of Unicode 15.0; 15.1 and 16.0 have brought these many.
  compare("L", CharacterClass::kLetter, 4924);
  compare("N", CharacterClass::kNumber, 80);
  compare("White_Space", CharacterClass::kSpace, 0);
}

}  // namespace
}  // namespace gpt2train
