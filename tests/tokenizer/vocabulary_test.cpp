#include "gpt2train/tokenizer/vocabulary.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "gpt2train/core/error.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;
using Json = nlohmann::json;

std::string error_of(const TempDir& dir) {
  try {
    load_vocabulary(dir.path());
  } catch (const DataError& error) {
    std::string text = error.what();
    return text.substr(0, dir.path().size()) == dir.path() ? text.substr(dir.path().size()) : text;
  }
  return "none";
}

std::string error_of_merges(const std::string& lines) {
  const TempDir dir;
  write_file(dir / "vocab.bpe", "#version: 0.2\n" + lines);
  return error_of(dir);
}

// "t h", "th e" and "<|endoftext|>" after the 256 bytes.
void write_the(const TempDir& dir) {
  write_file(dir / "vocab.bpe", "#version: 0.2\nt h\nth e\n");
}

Json encoder_of(const TempDir& dir) {
  save_vocabulary(load_vocabulary(dir.path()), dir / "saved");
  return Json::parse(read_file(dir / "saved/encoder.json"));
}

TEST(Vocabulary, NumbersFollowFromTheMerges) {
  const TempDir dir;
  write_the(dir);
  const Vocabulary vocabulary = load_vocabulary(dir.path());
  EXPECT_EQ(vocabulary.byte_tokens['!'], 0);
  EXPECT_EQ(vocabulary.byte_tokens['~'], 93);
  EXPECT_EQ(vocabulary.byte_tokens[0xA1], 94);
  EXPECT_EQ(vocabulary.byte_tokens[0xFF], 187);
  EXPECT_EQ(vocabulary.byte_tokens[0], 188);
  EXPECT_EQ(vocabulary.byte_tokens[' '], 220);
  EXPECT_EQ(vocabulary.byte_tokens[0xAD], 255);
  EXPECT_EQ(vocabulary.tokens[256], "th");
  EXPECT_EQ(vocabulary.tokens[257], "the");
  EXPECT_EQ(vocabulary.end_of_text, 258);
}

TEST(Vocabulary, IsTheSameWhenSavedAndRead) {
  const TempDir dir;
  write_file(dir / "vocab.bpe", "#version: 0.2\n\u0120 t\n\u00C3 \u00A9\n\u010A \u010A\n");
  const Vocabulary first = load_vocabulary(dir.path());
  EXPECT_EQ(first.tokens[256], " t");
  EXPECT_EQ(first.tokens[257], "\u00E9");
  EXPECT_EQ(first.tokens[258], "\n\n");
  save_vocabulary(first, dir / "saved");
  EXPECT_EQ(read_file(dir / "saved/vocab.bpe"), read_file(dir / "vocab.bpe"));
  EXPECT_EQ(load_vocabulary(dir / "saved").tokens, first.tokens);
}

TEST(Vocabulary, TakesNumbersFromEncoderJson) {
  const TempDir dir;
  write_the(dir);
  Json encoder = encoder_of(dir);
  std::swap(encoder["th"], encoder["<|endoftext|>"]);
  std::swap(encoder["a"], encoder["b"]);
  write_file(dir / "encoder.json", encoder.dump());
  const Vocabulary vocabulary = load_vocabulary(dir.path());
  EXPECT_EQ(vocabulary.end_of_text, 256);
  EXPECT_EQ(vocabulary.merges[0].result, 258);
  EXPECT_EQ(vocabulary.merges[1].left, 258);
  EXPECT_EQ(vocabulary.byte_tokens['a'], 'b' - '!');
}

TEST(Vocabulary, ReadsHuggingFacesFiles) {
  const TempDir dir;
  write_the(dir);
  const Vocabulary wanted = load_vocabulary(dir.path());
  const Json encoder = encoder_of(dir);
  const TempDir slow;
  write_file(slow / "merges.txt", read_file(dir / "vocab.bpe"));
  write_file(slow / "vocab.json", encoder.dump());
  EXPECT_EQ(load_vocabulary(slow.path()).tokens, wanted.tokens);

  for (const char* merges : {R"(["t h", "th e"])", R"([["t", "h"], ["th", "e"]])"}) {
    const TempDir fast;
    const Json json = {
        {"added_tokens", {{{"id", 258}, {"content", "<|endoftext|>"}}}},
        {"normalizer", nullptr},
        {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
        {"model", {{"type", "BPE"}, {"vocab", encoder}, {"merges", Json::parse(merges)}}}};
    write_file(fast / "tokenizer.json", json.dump());
    EXPECT_EQ(load_vocabulary(fast.path()).tokens, wanted.tokens);

    Json other = json;
    other["pre_tokenizer"]["type"] = "Metaspace";
    write_file(fast / "tokenizer.json", other.dump());
    EXPECT_EQ(
        error_of(fast),
        "/tokenizer.json: is not a tokenizer like GPT-2's: expected a pre_tokenizer ByteLevel "
        "without prefix space");
  }
}

TEST(Vocabulary, SaysInWhichLineMergesAreWrong) {
  EXPECT_EQ(error_of_merges("t h\nth\n"),
            "/vocab.bpe: line 3: \"th\", expected two tokens and a space");
  EXPECT_EQ(error_of_merges("t h e\n"),
            "/vocab.bpe: line 2: \"t h e\", expected two tokens and a space");
  EXPECT_EQ(error_of_merges("\n"), "/vocab.bpe: line 2: \"\", expected two tokens and a space");
  EXPECT_EQ(error_of_merges("th e\n"),
            "/vocab.bpe: line 2: \"th\" is no byte, and no merge above makes it");
  EXPECT_EQ(error_of_merges("t h\nt h\n"),
            "/vocab.bpe: line 3: makes \"th\", which is there already");
  EXPECT_EQ(error_of_merges("t \u20AC\n"),
            "/vocab.bpe: line 2: \"\u20AC\" is not a token of a byte-level BPE");
  EXPECT_EQ(error_of_merges("t \xFF\n"),
            "/vocab.bpe: line 2: \"\uFFFD\" is not a token of a byte-level BPE");
  EXPECT_EQ(error_of_merges("t h\r\n"),
            "/vocab.bpe: line 2: \"h\r\" is not a token of a byte-level BPE");
}

TEST(Vocabulary, SaysWhatIsWrongWithTheFile) {
  const TempDir dir;
  EXPECT_EQ(
      error_of(dir),
      ": has no vocab.bpe, merges.txt or tokenizer.json; scripts/fetch_vocab.sh fetches GPT-2's");
  write_file(dir / "vocab.bpe", "");
  EXPECT_EQ(error_of(dir), "/vocab.bpe: is empty");
  write_file(dir / "vocab.bpe", "t h\n");
  EXPECT_EQ(error_of(dir), "/vocab.bpe: line 1: expected \"#version: 0.2\"");
  std::string many;
  for (int left = 0x21; left < 0x7F; ++left) {
    for (int right = 0x21; right < 0x7F; ++right) {
      many += concat(static_cast<char>(left), ' ', static_cast<char>(right), '\n');
    }
  }
  std::string more = many;
  for (int i = 0; i < 8; ++i) {  // "!x y", where "!x" is made above
    for (std::size_t at = 0; at < many.size(); at += 4) {
      more += concat(static_cast<char>('!' + i), many.substr(at, 1), ' ', many.substr(at + 2, 2));
    }
  }
  EXPECT_EQ(
      error_of_merges(more),
      "/vocab.bpe: 79781 tokens, expected at most 65536, as token files have 16 bits a token");
}

TEST(Vocabulary, SaysWhichTokenOfEncoderJsonIsWrong) {
  const TempDir dir;
  write_the(dir);
  const Json good = encoder_of(dir);
  const auto error_with = [&](auto change) {
    Json bad = good;
    change(bad);
    write_file(dir / "encoder.json", bad.dump());
    return error_of(dir);
  };
  EXPECT_EQ(error_with([](Json& json) { json["th"] = 257; }).substr(0, 21),
            "/encoder.json: token ");
  EXPECT_EQ(error_with([](Json& json) { json["th"] = 3000; }),
            "/encoder.json: token \"th\" has the number 3000, expected each of 0 to 258 once");
  EXPECT_EQ(error_with([](Json& json) { json["th"] = -1; }),
            "/encoder.json: token \"th\": expected a number below 65536");
  EXPECT_EQ(error_with([](Json& json) { json["th"] = 1e30; }),
            "/encoder.json: token \"th\": expected a number below 65536");
  EXPECT_EQ(error_with([](Json& json) { json["more"] = 259; }),
            "/encoder.json: token 259 is no byte, no merge makes it, and it is not <|endoftext|>");
  EXPECT_EQ(error_with([](Json& json) {
              json.erase("the");
              json["<|endoftext|>"] = 257;
            }),
            "/encoder.json: lacks \"the\", which line 3 of the merges makes");
  EXPECT_EQ(error_with([](Json& json) { json.erase("<|endoftext|>"); }).substr(0, 36),
            "/encoder.json: lacks \"<|endoftext|>\"");
  EXPECT_EQ(error_with([](Json& json) { json = Json::array(); }),
            "/encoder.json: expected an object of tokens and their numbers");
  write_file(dir / "encoder.json", "{\"a\": ");
  EXPECT_NE(error_of(dir), "none");
}

// Whatever is in the file, it is either read or an error of the data.
TEST(Vocabulary, SurvivesDamagedFiles) {
  const TempDir dir;
  write_the(dir);
  const std::string encoder = encoder_of(dir).dump();
  const Json tokenizer = {
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"model", {{"type", "BPE"}, {"vocab", Json::parse(encoder)}, {"merges", {"t h", "th e"}}}}};
  const TempDir other;
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    const bool fast = i % 2 == 0;
    std::string bytes = fast ? tokenizer.dump() : encoder;
    for (int change = 0; change < 3; ++change) {
      bytes[random() % bytes.size()] =
          static_cast<char>(random() % 4 == 0 ? random() : "{}[],:\"019"[random() % 10]);
    }
    write_file(fast ? other / "tokenizer.json" : dir / "encoder.json", bytes);
    try {
      EXPECT_GE(load_vocabulary(fast ? other.path() : dir.path()).tokens.size(), 257u);
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace gpt2train
