// Built where Apache Arrow is.
#include <arrow/io/file.h>
#include <gtest/gtest.h>
#include <parquet/api/writer.h>

#include <optional>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/corpus.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;
using Rows = std::vector<std::optional<std::string>>;

constexpr std::size_t kRowsInGroup = 1500;  // more than the reader takes at a time

// Columns "id", "text" and "tags", the last of which has lists.
std::string write_parquet(const TempDir& dir, const Rows& rows) {
  using namespace parquet;
  using schema::GroupNode, schema::PrimitiveNode;
  const auto node = [](const char* name, Repetition::type repetition, Type::type type) {
    return PrimitiveNode::Make(name, repetition, type);
  };
  const auto root = std::static_pointer_cast<GroupNode>(
      GroupNode::Make("row", Repetition::REQUIRED,
                      {node("id", Repetition::REQUIRED, Type::INT64),
                       node("text", Repetition::OPTIONAL, Type::BYTE_ARRAY),
                       node("tags", Repetition::REPEATED, Type::BYTE_ARRAY)}));
  const std::string path = dir / "a.parquet";
  const auto writer = ParquetFileWriter::Open(*::arrow::io::FileOutputStream::Open(path), root);
  for (std::size_t row = 0; row < rows.size();) {
    RowGroupWriter* const group = writer->AppendRowGroup();
    std::vector<std::int64_t> ids;
    std::vector<std::int16_t> present;
    std::vector<ByteArray> texts;
    for (; row < rows.size() && ids.size() < kRowsInGroup; ++row) {
      ids.push_back(static_cast<std::int64_t>(row));
      present.push_back(rows[row].has_value());
      if (rows[row]) texts.emplace_back(*rows[row]);
    }
    const std::int64_t count = std::ssize(ids);
    static_cast<Int64Writer*>(group->NextColumn())->WriteBatch(count, nullptr, nullptr, ids.data());
    static_cast<ByteArrayWriter*>(group->NextColumn())
        ->WriteBatch(count, present.data(), nullptr, texts.data());
    const std::vector<std::int16_t> none(ids.size());
    static_cast<ByteArrayWriter*>(group->NextColumn())
        ->WriteBatch(count, none.data(), none.data(), nullptr);
  }
  writer->Close();
  return path;
}

std::string error_of(const CorpusOptions& options) {
  try {
    Corpus corpus(options);
    for (Fragment fragment; corpus.next(fragment);) {
    }
  } catch (const DataError& error) {
    return error.what();
  }
  return "none";
}

TEST(Parquet, ARowIsADocument) {
  const TempDir dir;
  Rows rows;
  for (int i = 0; i < 4000; ++i) rows.push_back("text " + std::to_string(i) + "\n");
  rows[7] = "";
  rows[3999] = std::string(3'000'000, 'x');
  const std::string path = write_parquet(dir, rows);
  Corpus corpus({.files = {path, path}});
  Rows found;
  for (Fragment fragment; corpus.next(fragment);) {
    EXPECT_TRUE(fragment.first && fragment.last);
    EXPECT_EQ(fragment.document, found.size());
    found.push_back(corpus.text_of(fragment));
    if (found.size() == 2000) {
      EXPECT_EQ(corpus.bytes_read(), corpus.total_bytes() / 4);
    }
  }
  EXPECT_EQ(corpus.bytes_read(), corpus.total_bytes());
  EXPECT_EQ(Rows(found.begin(), found.begin() + 4000), rows);
  EXPECT_EQ(Rows(found.begin() + 4000, found.end()), rows);
}

TEST(Parquet, ARowWithoutATextIsAnError) {
  const TempDir dir;
  Rows rows(2000, "text");
  rows[1700] = std::nullopt;
  const std::string path = write_parquet(dir, rows);
  EXPECT_EQ(error_of({.files = {path}}), path + ": row 1700 has no text");
}

TEST(Parquet, SaysWhatIsWrongWithTheColumn) {
  const TempDir dir;
  const std::string path = write_parquet(dir, {"text"});
  EXPECT_EQ(error_of({.files = {path}, .field = "body"}),
            path + ": has no column \"body\", expected one of strings");
  EXPECT_EQ(error_of({.files = {path}, .field = "id"}), path + ": column \"id\" is not of strings");
  EXPECT_EQ(error_of({.files = {path}, .field = "tags"}),
            path + ": column \"tags\" is not of strings");
}

TEST(Parquet, ADamagedFileIsAnError) {
  const TempDir dir;
  const std::string path = write_parquet(dir, Rows(3000, "text"));
  const std::string bytes = read_file(path);
  write_file(path, bytes.substr(0, bytes.size() / 2));
  EXPECT_TRUE(error_of({.files = {path}}).starts_with(path + ": Parquet: "));
  write_file(path, "");
  EXPECT_TRUE(error_of({.files = {path}}).starts_with(path + ": Parquet: "));
  EXPECT_TRUE(error_of({.files = {dir / "none.parquet"}}).starts_with(dir / "none.parquet"));
}

}  // namespace
}  // namespace gpt2train
