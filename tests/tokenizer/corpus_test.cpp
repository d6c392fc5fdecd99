#include "gpt2train/tokenizer/corpus.h"

#include <gtest/gtest.h>

#include <random>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/bpe.h"
#include "tests/support/temp_dir.h"

#ifdef GPT2TRAIN_HAS_ZLIB
#include <zlib.h>
#endif
#ifdef GPT2TRAIN_HAS_ZSTD
#include <zstd.h>
#endif

namespace gpt2train {
namespace {

using test::TempDir;
using test::write_file;
using Texts = std::vector<std::string>;

// Whole documents, put together again from fragments, which are checked on the way.
Texts documents_of(const CorpusOptions& options) {
  Corpus corpus(options);
  Texts texts;
  bool open = false;
  for (Fragment fragment; corpus.next(fragment);) {
    EXPECT_EQ(fragment.first, !open);
    if (fragment.first) texts.emplace_back();
    EXPECT_EQ(fragment.document + 1, texts.size());
    open = !fragment.last;
    texts.back() += corpus.text_of(fragment);
  }
  EXPECT_FALSE(open);
  return texts;
}

Texts documents_of_text(const std::string& text, const std::string& delimiter, bool keep = false) {
  const TempDir dir;
  write_file(dir / "a.txt", text);
  return documents_of({.files = {dir / "a.txt"}, .delimiter = delimiter, .keep_delimiter = keep});
}

std::string error_of(const CorpusOptions& options) {
  try {
    documents_of(options);
  } catch (const DataError& error) {
    return error.what();
  }
  return "none";
}

std::string long_text(std::size_t bytes) {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < bytes)
    text += std::string(1 + random() % 9, "ab1'. \n\t"[random() % 8]) + ' ';
  return text;
}

TEST(Corpus, AFileIsADocument) {
  const TempDir dir;
  write_file(dir / "a.txt", "one\n");
  write_file(dir / "b.txt", "");
  EXPECT_EQ(documents_of({.files = {dir / "a.txt", dir / "b.txt", dir / "a.txt"}}),
            (Texts{"one\n", "", "one\n"}));
}

TEST(Corpus, DelimitersPartDocuments) {
  EXPECT_EQ(documents_of_text("a--b-c----d--", "--"), (Texts{"a", "b-c", "", "d"}));
  EXPECT_EQ(documents_of_text("a--b", "--", true), (Texts{"a--", "b"}));
  EXPECT_EQ(documents_of_text("", "--"), Texts{});
  EXPECT_EQ(documents_of_text("-", "--"), (Texts{"-"}));
}

TEST(Corpus, DelimitersAreFoundWhereReadsMeet) {
  const std::string block(262144 - 2,
                          'x');  // one byte of the delimiter in the first read of 256 KiB
  EXPECT_EQ(documents_of_text(block + "\n\n\nb", "\n\n\n"), (Texts{block, "b"}));
}

TEST(Corpus, JsonLinesHaveTheirField) {
  const TempDir dir;
  write_file(dir / "a.jsonl",
             "{\"body\": \"one\\n\"}\n\n \r\n{\"body\": \"\"}\n{\"body\": \"three\"}");
  EXPECT_EQ(documents_of({.files = {dir / "a.jsonl"}, .field = "body"}),
            (Texts{"one\n", "", "three"}));
  EXPECT_EQ(error_of({.files = {dir / "a.jsonl"}}),
            dir / "a.jsonl" + ": line 1: expected an object with \"text\"");
}

TEST(Corpus, GlobsComeInLexicalOrder) {
  const TempDir dir;
  for (const char* name : {"b.txt", "a.txt", "[c].txt"}) write_file(dir / name, name);
  EXPECT_EQ(expand_globs({dir / "*.txt"}), (Texts{dir / "[c].txt", dir / "a.txt", dir / "b.txt"}));
  EXPECT_EQ(expand_globs({dir / "[c].txt", "-"}), (Texts{dir / "[c].txt", "-"}));
  EXPECT_THROW(expand_globs({dir / "*.md"}), DataError);
}

// The tokens of the parts are the tokens of the whole.
TEST(Corpus, LongTextsAreCutWhereTokensEnd) {
  const TempDir dir;
  const std::string text = long_text(1500000);
  write_file(dir / "a.txt", text);
  const auto tokenizer = make_bpe_tokenizer(
      make_vocabulary({{220, 64, 256}, {220, 220, 257}, {64, 65, 258}, {198, 220, 259}}));
  const auto encoder = tokenizer->make_encoder();
  Corpus corpus({.files = {dir / "a.txt"}});
  std::vector<Token> parts;
  std::vector<Token> whole;
  int fragments = 0;
  for (Fragment fragment; corpus.next(fragment); ++fragments) {
    encoder->encode(fragment.bytes, SpecialTokens::kAsText, parts);
  }
  encoder->encode(text, SpecialTokens::kAsText, whole);
  EXPECT_GT(fragments, 2);
  EXPECT_TRUE(parts == whole);
}

TEST(Corpus, TextsThatCannotBeCutStayWhole) {
  const std::string text(700000, 'x');
  EXPECT_EQ(documents_of_text(text, ""), (Texts{text}));
  EXPECT_EQ(documents_of_text(text + " b", ""), (Texts{text + " b"}));
}

#ifdef GPT2TRAIN_HAS_ZLIB
std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(packed.size() - stream.avail_out);
  deflateEnd(&stream);
  return packed;
}

TEST(Corpus, UnpacksGzipOfSeveralMembers) {
  const TempDir dir;
  const std::string text = long_text(900000);
  write_file(dir / "a.txt.gz", gzip(text) + gzip("end"));
  EXPECT_EQ(documents_of({.files = {dir / "a.txt.gz"}}), (Texts{text + "end"}));
  write_file(dir / "b.jsonl.gz", gzip("{\"text\": \"a\"}\n"));
  EXPECT_EQ(documents_of({.files = {dir / "b.jsonl.gz"}}), (Texts{"a"}));
}

TEST(Corpus, SaysWhereGzipIsDamaged) {
  const TempDir dir;
  const std::string packed = gzip(long_text(100000));
  write_file(dir / "cut", packed.substr(0, packed.size() / 2));
  EXPECT_EQ(error_of({.files = {dir / "cut"}}),
            concat(dir / "cut", ": byte ", packed.size() / 2, ": the packed data is cut off"));
  std::string damaged = packed;
  damaged[damaged.size() / 2] ^= 0x55;
  write_file(dir / "damaged", damaged);
  EXPECT_NE(error_of({.files = {dir / "damaged"}}), "none");
}
#endif

#ifdef GPT2TRAIN_HAS_ZSTD
std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 1));
  return packed;
}

TEST(Corpus, UnpacksZstdOfSeveralFrames) {
  const TempDir dir;
  const std::string text = long_text(900000);
  write_file(dir / "a.txt.zst", zstd(text) + zstd("end"));
  EXPECT_EQ(documents_of({.files = {dir / "a.txt.zst"}}), (Texts{text + "end"}));
}

TEST(Corpus, SaysThatZstdIsCutOff) {
  const TempDir dir;
  const std::string packed = zstd(long_text(100000));
  write_file(dir / "cut", packed.substr(0, packed.size() / 2));
  EXPECT_EQ(error_of({.files = {dir / "cut"}}),
            concat(dir / "cut", ": byte ", packed.size() / 2, ": the packed data is cut off"));
}
#endif

#ifndef GPT2TRAIN_HAS_PARQUET
TEST(Corpus, SaysWhatParquetNeeds) {
  const TempDir dir;
  write_file(dir / "a.parquet", "PAR1");
  EXPECT_NE(error_of({.files = {dir / "a.parquet"}}).find("this build lacks Apache Arrow"),
            std::string::npos);
}
#endif

}  // namespace
}  // namespace gpt2train
