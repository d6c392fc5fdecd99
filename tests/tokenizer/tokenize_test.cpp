#include "gpt2train/tokenizer/tokenize.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/bpe.h"
#include "gpt2train/tokenizer/meta.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;
using Tokens = std::vector<Token>;

constexpr Token kEnd = 258;

std::unique_ptr<Tokenizer> small_tokenizer() {
  return make_bpe_tokenizer(make_vocabulary({{64, 65, 256}, {220, 256, 257}}));  // "ab", " ab"
}

Tokens tokens_in(const std::string& path, std::size_t header = 0) {
  const std::string bytes = read_file(path).substr(header);
  Tokens tokens(bytes.size() / 2);
  std::memcpy(tokens.data(), bytes.data(), tokens.size() * 2);
  return tokens;
}

// Documents "ab ab ...", of 0 to 49 words each.
void write_corpus(const std::string& path, int documents) {
  std::mt19937 random(2);
  std::string text;
  for (int i = 0; i < documents; ++i) {
    std::string words;
    for (std::size_t left = random() % 50; left > 0; --left)
      words += random() % 2 == 0 ? " ab" : " b";
    text += "{\"text\": \"" + words + "\"}\n";
  }
  write_file(path, text);
}

TokenizeOptions options_of(const TempDir& dir, const std::string& out) {
  return {.corpus = {.files = {dir / "corpus.jsonl"}},
          .out = dir / out,
          .split = {.fraction = 0.25},
          .threads = 3};
}

TEST(Tokenize, EachDocumentEndsWithEndOfText) {
  const TempDir dir;
  write_file(dir / "corpus.jsonl",
             "{\"text\": \"ab ab\"}\n{\"text\": \"\"}\n{\"text\": \"<|endoftext|>\"}\n");
  TokenizeOptions options = options_of(dir, "out");
  options.split.fraction = 0.0;
  const TokenizeProgress done = tokenize(options, *small_tokenizer(), {});
  Tokens wanted = {256, 257, kEnd, kEnd};
  for (const char byte : kEndOfText) wanted.push_back(static_cast<Token>(byte - '!'));
  wanted.push_back(kEnd);
  EXPECT_EQ(tokens_in(dir / "out/train.bin"), wanted);
  EXPECT_EQ(done.documents, 3u);
  EXPECT_EQ(done.train_tokens, wanted.size());
  EXPECT_FALSE(std::filesystem::exists(dir / "out/val.bin"));
  EXPECT_FALSE(std::filesystem::exists(dir / "out/tokenize.progress"));
}

TEST(Tokenize, TheSplitOfDocumentsDoesNotDependOnThreads) {
  const TempDir dir;
  write_corpus(dir / "corpus.jsonl", 10000);  // of more than a megabyte: several batches
  const auto tokenizer = small_tokenizer();
  TokenizeOptions options = options_of(dir, "one");
  options.threads = 1;
  const TokenizeProgress done = tokenize(options, *tokenizer, {});
  tokenize(options_of(dir, "three"), *tokenizer, {});
  for (const char* file : {"/train.bin", "/val.bin"}) {
    EXPECT_TRUE(read_file(dir / "one" + file) == read_file(dir / "three" + file)) << file;
  }
  const Tokens val = tokens_in(dir / "one/val.bin");
  EXPECT_NEAR(static_cast<double>(std::count(val.begin(), val.end(), kEnd)), 2500.0, 200.0);
  EXPECT_EQ(done.val_tokens, val.size());
}

TEST(Tokenize, TheTailIsOfCharacters) {
  const TempDir dir;
  write_file(dir / "a.txt", "\u65E5\u672C\u8A9E\u3067\u3059abcde");
  const auto tokenizer = make_byte_tokenizer();
  const TokenizeOptions options{.corpus = {.files = {dir / "a.txt"}, .whole_documents = true},
                                .beside = {{"meta.json", byte_meta()}},
                                .out = dir / "out",
                                .end_of_text = EndOfText::kNone,
                                .split = {.rule = SplitRule::kTail, .fraction = 0.6}};
  tokenize(options, *tokenizer, {});
  EXPECT_EQ(load_tokenizer(dir / "out")->vocab_size(), 256);
  EXPECT_EQ(tokens_in(dir / "out/train.bin").size(), 12u);  // four characters
  EXPECT_EQ(tokens_in(dir / "out/val.bin").size(), 8u);
}

TEST(Tokenize, ShardsHaveHeadersAndGoOnWithinDocuments) {
  const TempDir dir;
  write_file(dir / "corpus.jsonl", "{\"text\": \"aaaaa\"}\n{\"text\": \"bbbbbb\"}\n");
  TokenizeOptions options = options_of(dir, "out");
  options.llmc = true;
  options.shard_tokens = 4;
  options.end_of_text = EndOfText::kBefore;
  options.split = {.rule = SplitRule::kFirst, .tokens = 3};
  tokenize(options, *small_tokenizer(), {});
  const auto header = [&](const std::string& name) {
    std::array<std::int32_t, 256> words{};
    std::memcpy(words.data(), read_file(dir / name).data(), sizeof words);
    EXPECT_EQ(std::accumulate(words.begin() + 3, words.end(), 0), 0);
    return std::vector<std::int32_t>(words.begin(), words.begin() + 3);
  };
  using Words = std::vector<std::int32_t>;
  EXPECT_EQ(header("out/val_000000.bin"), (Words{20240520, 1, 3}));
  EXPECT_EQ(tokens_in(dir / "out/val_000000.bin", 1024), (Tokens{kEnd, 64, 64}));
  EXPECT_EQ(header("out/train_000000.bin"), (Words{20240520, 1, 4}));
  EXPECT_EQ(tokens_in(dir / "out/train_000000.bin", 1024), (Tokens{64, 64, 64, kEnd}));
  EXPECT_EQ(tokens_in(dir / "out/train_000001.bin", 1024), (Tokens{65, 65, 65, 65}));
  EXPECT_EQ(header("out/train_000002.bin"), (Words{20240520, 1, 2}));
  EXPECT_EQ(tokens_in(dir / "out/train_000002.bin", 1024), (Tokens{65, 65}));
  EXPECT_FALSE(std::filesystem::exists(dir / "out/train_000003.bin"));
}

// A run that ends in the middle, with more written than was made safe.
struct Killed {};

void run_until(const TokenizeOptions& options, const Tokenizer& tokenizer, int batches) {
  EXPECT_THROW(tokenize(options, tokenizer,
                        [&](const TokenizeProgress& progress) {
                          if (!progress.skipping && --batches == 0) throw Killed();
                        }),
               Killed);
}

TEST(Tokenize, GoesOnWhereItWasKilled) {
  const TempDir dir;
  write_corpus(dir / "corpus.jsonl", 12000);
  const auto tokenizer = small_tokenizer();
  for (const bool llmc : {false, true}) {
    TokenizeOptions options = options_of(dir, concat("whole", llmc));
    options.llmc = llmc;
    options.shard_tokens = 100000;
    options.threads = 1;
    tokenize(options, *tokenizer, {});
    const std::string whole = options.out;
    options.out = dir / concat("killed", llmc);
    options.sync_seconds = 0.0;
    run_until(options, *tokenizer, 2);
    options.sync_seconds = 1e9;
    run_until(options, *tokenizer, 3);
    EXPECT_FALSE(
        std::filesystem::exists(options.out + (llmc ? "/train_000000.bin" : "/train.bin")));
    tokenize(options, *tokenizer, {});
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(whole)) {
      const std::string name = entry.path().filename();
      EXPECT_TRUE(read_file(whole + "/" + name) == read_file(options.out + "/" + name)) << name;
      ++files;
    }
    EXPECT_GE(files, llmc ? 5 : 2);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(options.out), {}), files);
  }
}

TEST(Tokenize, GoesOnOnlyWithTheSameRun) {
  const TempDir dir;
  write_corpus(dir / "corpus.jsonl", 10000);
  const auto tokenizer = small_tokenizer();
  TokenizeOptions options = options_of(dir, "out");
  options.sync_seconds = 0.0;
  run_until(options, *tokenizer, 1);
  TokenizeOptions other = options;
  other.split.seed = 1;
  EXPECT_THROW(tokenize(other, *tokenizer, {}), DataError);
  EXPECT_THROW(tokenize(options, *make_bpe_tokenizer(make_vocabulary({{64, 66, 256}})), {}),
               DataError);
  write_corpus(dir / "corpus.jsonl", 10001);
  EXPECT_THROW(tokenize(options, *tokenizer, {}), DataError);
}

TEST(Tokenize, WritesNothingOver) {
  const TempDir dir;
  write_corpus(dir / "corpus.jsonl", 100);
  tokenize(options_of(dir, "out"), *small_tokenizer(), {});
  const std::string before = read_file(dir / "out/train.bin");
  TokenizeOptions options = options_of(dir, "out");
  options.beside = {{"meta.json", "{}"}};
  EXPECT_THROW(tokenize(options, *small_tokenizer(), {}), DataError);
  EXPECT_FALSE(std::filesystem::exists(dir / "out/meta.json"));
  EXPECT_EQ(read_file(dir / "out/train.bin"), before);
}

TEST(Tokenize, TheFirstErrorOfTheCorpusIsTold) {
  const TempDir dir;
  std::string text;
  for (int line = 1; line <= 40000; ++line) {
    text += line == 20000 || line == 30000 ? "{\"text\": 1}\n"
                                           : "{\"text\": \"ab ab ab ab ab ab ab\"}\n";
  }
  write_file(dir / "corpus.jsonl", text);
  try {
    tokenize(options_of(dir, "out"), *small_tokenizer(), {});
    FAIL() << "was tokenized";
  } catch (const DataError& error) {
    EXPECT_EQ(error.what(),
              dir / "corpus.jsonl" + ": line 20000: \"text\" is a number, expected a string");
  }
}

TEST(Tokenize, MatchesTheReferencesTokenFiles) {
  const std::string golden = GPT2TRAIN_GOLDEN_DIR;
  if (!std::ifstream(golden + "/gpt2_bpe/vocab.bpe")) GTEST_SKIP() << "no reference data";
  const TempDir dir;
  const auto tokenizer = load_tokenizer(golden + "/gpt2_bpe");
  for (const bool llmc : {false, true}) {
    TokenizeOptions options{.corpus = {.files = {golden + "/formats/docs.jsonl"}},
                            .out = dir / concat("out", llmc),
                            .llmc = llmc,
                            .end_of_text = llmc ? EndOfText::kBefore : EndOfText::kAfter,
                            .split = {.fraction = 0.0}};
    tokenize(options, *tokenizer, {});
    EXPECT_EQ(read_file(options.out + (llmc ? "/train_000000.bin" : "/train.bin")),
              read_file(golden + (llmc ? "/formats/llmc_docs.bin" : "/formats/nanogpt_docs.bin")));
  }
}

}  // namespace
}  // namespace gpt2train
