#include "gpt2train/tokenizer/json_line.h"

#include <gtest/gtest.h>

#include "gpt2train/core/error.h"

namespace gpt2train {
namespace {

std::string text_of(const std::string& line) {
  return text_field(line, "text", "corpus.jsonl", 7);
}

std::string error_of(const std::string& line) {
  try {
    text_of(line);
  } catch (const DataError& error) {
    return error.what();
  }
  return "none";
}

TEST(JsonLine, ReadsTheField) {
  EXPECT_EQ(text_of(R"({"id": 1, "text": "a\n\"b\" \u00e9"})"), "a\n\"b\" \u00E9");
}

TEST(JsonLine, ReplacesHalvesOfSurrogatePairsOnly) {
  EXPECT_EQ(text_of(R"({"text": "\ud83d\ude00"})"), "\U0001F600");
  EXPECT_EQ(text_of(R"({"text": "\ud83d"})"), "\uFFFD");
  EXPECT_EQ(text_of(R"({"text": "\uDE00\ud83dx"})"), "\uFFFD\uFFFDx");
  EXPECT_EQ(text_of(R"({"text": "\ud83d\ud83d\ude00"})"), "\uFFFD\U0001F600");
  EXPECT_EQ(text_of(R"({"text": "\\ud83d"})"), "\\ud83d");  // an escaped backslash
  EXPECT_EQ(text_of(R"({"text": "\\\ud83d"})"), "\\\uFFFD");
}

TEST(JsonLine, ReplacesInvalidBytes) {
  EXPECT_EQ(text_of("{\"text\": \"a\xFF\"}"), "a\uFFFD");
}

TEST(JsonLine, SaysWhichLineIsWrongAndHow) {
  EXPECT_EQ(error_of("[]"), "corpus.jsonl: line 7: expected an object with \"text\"");
  EXPECT_EQ(error_of(R"({"body": "a"})"), "corpus.jsonl: line 7: expected an object with \"text\"");
  EXPECT_EQ(error_of(R"({"text": 1})"),
            "corpus.jsonl: line 7: \"text\" is a number, expected a string");
  EXPECT_EQ(error_of(R"({"text": "a)").substr(0, 22), "corpus.jsonl: line 7: ");
  EXPECT_EQ(error_of("{\"text\": \"\\ud8").substr(0, 22), "corpus.jsonl: line 7: ");
}

}  // namespace
}  // namespace gpt2train
