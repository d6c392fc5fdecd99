#include "gpt2train/data/tokens.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "gpt2train/core/error.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::TempDir;
using test::write_file;

constexpr std::int64_t kVocabulary = 50257;

std::string raw(const std::vector<int>& tokens) {
  std::string bytes;
  for (const int token : tokens) {
    bytes += static_cast<char>(token & 0xFF);
    bytes += static_cast<char>(token >> 8);
  }
  return bytes;
}

std::string shard(const std::vector<int>& tokens, std::int32_t count, std::int32_t version = 1,
                  std::int32_t magic = 20240520) {
  const std::int32_t words[3] = {magic, version, count};
  std::string bytes(1024, '\0');
  std::memcpy(bytes.data(), words, sizeof words);
  return bytes + raw(tokens);
}

std::vector<std::int32_t> window(const TokenSource& source, std::int64_t index,
                                 std::int64_t length) {
  std::vector<std::int32_t> out(static_cast<std::size_t>(length), -1);
  source.read_window(index, out);
  return out;
}

using Tokens = std::vector<std::int32_t>;

// Opens and returns the error, which must name the path.
std::string error_of(const std::string& path, TokenFormat format = TokenFormat::kAuto,
                     std::int64_t vocab_size = kVocabulary) {
  try {
    const TokenSource source(path, format, vocab_size);
  } catch (const DataError& error) {
    const std::string what = error.what();
    const std::string start = path + ": ";
    EXPECT_TRUE(what.starts_with(start)) << what;
    return what.substr(std::min(start.size(), what.size()));
  }
  ADD_FAILURE() << path << " was accepted";
  return "";
}

TEST(TokenSource, ReadsNanoGptFilesWidened) {
  const TempDir dir;
  write_file(dir / "train.bin", raw({0, 1, 256, 50256, 7}));
  const TokenSource source(dir / "train.bin", TokenFormat::kAuto, kVocabulary);
  EXPECT_EQ(source.format(), TokenFormat::kNanoGpt);
  EXPECT_EQ(source.token_count(), 5);
  EXPECT_EQ(source.file_count(), 1);
  EXPECT_EQ(window(source, 0, 5), (Tokens{0, 1, 256, 50256, 7}));
  EXPECT_EQ(window(source, 3, 2), (Tokens{50256, 7}));
}

TEST(TokenSource, ReadsLlmcShardsByContent) {
  const TempDir dir;
  write_file(dir / "shard.txt", shard({50256, 3, 65}, 3));
  const TokenSource source(dir / "shard.txt", TokenFormat::kAuto, kVocabulary);
  EXPECT_EQ(source.format(), TokenFormat::kLlmc);
  EXPECT_EQ(source.token_count(), 3);
  EXPECT_EQ(window(source, 0, 3), (Tokens{50256, 3, 65}));
}

TEST(TokenSource, ReadsBytesFromTextFilesAndOnDemand) {
  const TempDir dir;
  write_file(dir / "input.txt", "a\xC3\xBF");
  write_file(dir / "input.bin", "a\xC3\xBF");
  for (const auto& [name, format] :
       {std::pair{"input.txt", TokenFormat::kAuto}, std::pair{"input.bin", TokenFormat::kBytes}}) {
    const TokenSource source(dir / name, format, 256);
    EXPECT_EQ(source.format(), TokenFormat::kBytes);
    EXPECT_EQ(window(source, 0, 3), (Tokens{97, 0xC3, 0xBF}));
  }
}

TEST(TokenSource, GlobTakesFilesInLexicalOrder) {
  const TempDir dir;
  write_file(dir / "val_00.bin", raw({1}));
  Tokens expected;
  for (int i = 0; i < 40; ++i) {  // many, so that the directory's own order is another
    write_file(dir / concat("train_", 49 - i, ".bin"),
               raw(std::vector<int>(static_cast<std::size_t>(1 + i % 3), 49 - i)));
    expected.insert(expected.begin(), static_cast<std::size_t>(1 + i % 3), 49 - i);
  }
  TokenSource opened(dir / "train_*.bin", TokenFormat::kAuto, kVocabulary);
  const TokenSource source = std::move(opened);
  EXPECT_EQ(source.file_count(), 40);
  ASSERT_EQ(source.token_count(), std::ssize(expected));
  for (std::int64_t i = 0; i < source.token_count(); ++i) {
    EXPECT_EQ(window(source, i, 1), Tokens{expected[static_cast<std::size_t>(i)]});
  }
}

TEST(TokenSource, NameThatExistsIsNoPattern) {
  const TempDir dir;
  write_file(dir / "train[1].bin", raw({5}));
  write_file(dir / "train1.bin", raw({6}));
  EXPECT_EQ(window(TokenSource(dir / "train[1].bin", TokenFormat::kAuto, kVocabulary), 0, 1),
            Tokens{5});
}

TEST(TokenSource, WindowsStayWithinOneFile) {
  const TempDir dir;
  write_file(dir / "a.bin", raw({0, 1, 2}));
  write_file(dir / "b.bin", raw({10}));  // holds no window of two tokens
  write_file(dir / "c.bin", shard({20, 21, 22, 23}, 4));
  const TokenSource source(dir / "*.bin", TokenFormat::kAuto, kVocabulary);
  EXPECT_EQ(source.window_count(1), 8);
  EXPECT_EQ(source.window_count(2), 2 + 0 + 3);
  EXPECT_EQ(source.window_count(4), 1);
  EXPECT_EQ(source.window_count(5), 0);
  const std::vector<Tokens> expected = {{0, 1}, {1, 2}, {20, 21}, {21, 22}, {22, 23}};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(window(source, static_cast<std::int64_t>(i), 2), expected[i]);
  }
  Tokens out(2);
  EXPECT_THROW(source.read_window(5, out), InternalError);
  EXPECT_THROW(source.read_window(-1, out), InternalError);
  EXPECT_THROW(source.window_count(0), InternalError);
}

TEST(TokenSource, MissingFileSaysSo) {
  const TempDir dir;
  EXPECT_TRUE(error_of(dir / "none.bin").starts_with("no file matches"));
  EXPECT_TRUE(error_of(dir / "*.bin").starts_with("no file matches"));
}

TEST(TokenSource, RejectsEmptyFilesAndDirectories) {
  const TempDir dir;
  write_file(dir / "empty.bin", "");
  EXPECT_EQ(error_of(dir / "empty.bin"), "the file is empty");
  EXPECT_EQ(error_of(dir.path()), "is a directory, expected a file");
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(error_of(dir / "pipe"), "is not a regular file");
}

TEST(TokenSource, UnreadableFileSaysWhy) {
  const TempDir dir;
  write_file(dir / "secret.bin", raw({1}));
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(dir / "secret.bin", std::filesystem::perms::none);
  const bool root = geteuid() == 0;  // may read anything, so be nobody for a moment
  if (root && seteuid(65534) != 0) GTEST_SKIP() << "cannot give up root";
  const std::string error = error_of(dir / "secret.bin");
  ASSERT_TRUE(!root || seteuid(0) == 0);
  EXPECT_EQ(error, "cannot open: Permission denied");
}

TEST(TokenSource, RejectsHalfAToken) {
  const TempDir dir;
  write_file(dir / "odd.bin", raw({1, 2}) + 'x');
  EXPECT_EQ(error_of(dir / "odd.bin"),
            "byte 4: half a token at the end: the file has 5 bytes, expected an even count "
            "(2 a token)");
}

TEST(TokenSource, RejectsHeadersThatLie) {
  const TempDir dir;
  const std::string path = dir / "shard.bin";
  write_file(path, shard({1, 2, 3}, 4));
  EXPECT_EQ(error_of(path),
            "byte 8: the header counts 4 tokens, but 6 bytes follow it, expected 2 a token");
  write_file(path, shard({1, 2, 3}, 2));
  EXPECT_TRUE(error_of(path).starts_with("byte 8: the header counts 2 tokens"));
  write_file(path, shard({1, 2, 3}, -3));
  EXPECT_TRUE(error_of(path).starts_with("byte 8: the header counts -3 tokens"));
  write_file(path, shard({}, -512));  // -512 tokens would take back the header
  EXPECT_TRUE(error_of(path).starts_with("byte 8: the header counts -512 tokens"));
  write_file(path, shard({1, 2, 3}, 3) + 'x');
  EXPECT_TRUE(error_of(path).starts_with("byte 8: the header counts 3 tokens, but 7 bytes"));
  write_file(path, shard({1}, 1, 2));
  EXPECT_EQ(error_of(path), "byte 4: version 2, expected 1");
  write_file(path, shard({1}, 1, 1, 20240801));
  EXPECT_EQ(error_of(path, TokenFormat::kLlmc), "byte 0: magic number 20240801, expected 20240520");
  write_file(path, shard({}, 0).substr(0, 1023));
  EXPECT_EQ(error_of(path), "byte 1023: the file ends inside the header of 1024 bytes");
  write_file(path, "ab");
  EXPECT_EQ(error_of(path, TokenFormat::kLlmc),
            "byte 2: the file ends inside the header of 1024 bytes");
}

TEST(TokenSource, RejectsTokensBeyondTheVocabulary) {
  const TempDir dir;
  const std::string path = dir / "train.bin";
  write_file(path, raw({1, 50257, 2, 65535}));
  EXPECT_EQ(error_of(path), "byte 2: token 50257, expected below the vocabulary size 50257");
  write_file(path, shard({1, 2, 97}, 3));
  EXPECT_EQ(error_of(path, TokenFormat::kAuto, 97),
            "byte 1028: token 97, expected below the vocabulary size 97");
  write_file(path, "abc");
  EXPECT_EQ(error_of(path, TokenFormat::kBytes, 98),
            "byte 1: token 98, expected below the vocabulary size 98");
  write_file(path, raw({65535}));
  EXPECT_EQ(error_of(path, TokenFormat::kAuto, 65535),
            "byte 0: token 65535, expected below the vocabulary size 65535");
  EXPECT_NO_THROW(TokenSource(path, TokenFormat::kAuto, 65536));
}

// The check runs over pieces in parallel: a bad token must be found at either side of their edges.
TEST(TokenSource, ChecksEveryPieceOfALargeFile) {
  const TempDir dir;
  const std::string path = dir / "train.bin";
  constexpr std::size_t kPiece = 1 << 20, kCount = 3 * kPiece + 5;
  const std::vector<int> good(kCount, 96);
  write_file(path, raw(good));
  EXPECT_NO_THROW(TokenSource(path, TokenFormat::kAuto, 97));
  for (const std::size_t at : {std::size_t{0}, kPiece - 1, kPiece, 2 * kPiece + 17, kCount - 1}) {
    std::vector<int> tokens = good;
    tokens[at] = 97;
    tokens.back() = 97;
    write_file(path, raw(tokens));
    EXPECT_EQ(error_of(path, TokenFormat::kAuto, 97),
              concat("byte ", 2 * at, ": token 97, expected below the vocabulary size 97"));
  }
}

TEST(TokenSource, ReadsTheReferenceFiles) {
  const std::string dir = GPT2TRAIN_GOLDEN_DIR "/formats/";
  if (!std::filesystem::is_directory(dir)) GTEST_SKIP() << "no reference files in " << dir;
  const TokenSource nano(dir + "nanogpt_docs.bin", TokenFormat::kAuto, kVocabulary);
  const TokenSource llmc(dir + "llmc_docs.bin", TokenFormat::kAuto, kVocabulary);
  EXPECT_EQ(nano.format(), TokenFormat::kNanoGpt);
  EXPECT_EQ(llmc.format(), TokenFormat::kLlmc);
  ASSERT_EQ(nano.token_count(), 55);
  ASSERT_EQ(llmc.token_count(), 55);
  // The same documents: nanoGPT ends each with token 50256, llm.c begins it so.
  EXPECT_EQ(window(nano, 0, 54), window(llmc, 1, 54));
  EXPECT_EQ(window(nano, 54, 1), Tokens{50256});
  EXPECT_EQ(window(llmc, 0, 1), Tokens{50256});
}

}  // namespace
}  // namespace gpt2train
