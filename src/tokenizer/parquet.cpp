#include "src/tokenizer/parquet.h"

#include "gpt2train/core/error.h"

#ifdef GPT2TRAIN_HAS_PARQUET
#include <parquet/api/reader.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

namespace gpt2train {
namespace {

// What Arrow throws, as an error of the file.
template <class Call>
auto named(const std::string& path, Call call) {
  try {
    return call();
  } catch (const parquet::ParquetException& error) {
    throw DataError(path, concat("Parquet: ", error.what()));
  }
}

class ColumnTexts final : public ParquetTexts {
 public:
  ColumnTexts(std::string path, const std::string& column) : path_(std::move(path)) {
    named(path_, [&] { open(column); });
  }

  bool next(std::string& text) override {
    while (given_ == got_) {
      if (!named(path_, [&] { return read_batch(); })) return false;
    }
    if (levels_[given_] < present_) {
      throw DataError(path_, concat("row ", rows_given_, " has no text"));
    }
    const parquet::ByteArray& value = values_[value_++];
    text.assign(reinterpret_cast<const char*>(value.ptr), value.len);
    ++given_;
    ++rows_given_;
    return true;
  }

  std::uint64_t bytes_read() const override {
    if (rows_ == 0) return bytes_;
    return static_cast<std::uint64_t>(static_cast<double>(bytes_) *
                                      static_cast<double>(rows_given_) /
                                      static_cast<double>(rows_));
  }

 private:
  void open(const std::string& column) {
    if (path_ == "-") throw DataError(path_, "Parquet is read from files, not from standard input");
    parquet::ReaderProperties properties;
    properties.enable_buffered_stream();  // or a row group would be read whole
    file_ = parquet::ParquetFileReader::OpenFile(path_, false, properties);
    const std::shared_ptr<parquet::FileMetaData> metadata = file_->metadata();
    rows_ = metadata->num_rows();
    column_ = metadata->schema()->ColumnIndex(column);
    if (column_ < 0) {
      throw DataError(path_, concat("has no column \"", column, "\", expected one of strings"));
    }
    const parquet::ColumnDescriptor* const found = metadata->schema()->Column(column_);
    if (found->physical_type() != parquet::Type::BYTE_ARRAY || found->max_repetition_level() > 0) {
      throw DataError(path_, concat("column \"", column, "\" is not of strings"));
    }
    present_ = found->max_definition_level();
    bytes_ = std::filesystem::file_size(path_);
  }

  // False at the end. A batch may have no rows.
  bool read_batch() {
    if (!reader_ || !reader_->HasNext()) {
      if (group_ == file_->metadata()->num_row_groups()) return false;
      reader_ = std::static_pointer_cast<parquet::ByteArrayReader>(
          file_->RowGroup(group_++)->Column(column_));
    }
    std::int64_t values = 0;
    levels_.fill(present_);  // where every row has a text, none are read
    given_ = value_ = 0;
    got_ = static_cast<std::size_t>(
        reader_->ReadBatch(kBatch, levels_.data(), nullptr, values_.data(), &values));
    return true;
  }

  static constexpr std::int64_t kBatch = 1024;  // of rows

  const std::string path_;
  std::unique_ptr<parquet::ParquetFileReader> file_;
  int column_ = 0;
  std::int16_t present_ = 0;  // the definition level of a text
  int group_ = 0;             // to be opened next
  std::shared_ptr<parquet::ByteArrayReader> reader_;
  std::array<std::int16_t, kBatch> levels_{};      // of the rows of a batch
  std::array<parquet::ByteArray, kBatch> values_;  // of those that have a text; Arrow's memory
  std::size_t got_ = 0, given_ = 0, value_ = 0;
  std::int64_t rows_ = 0, rows_given_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<ParquetTexts> open_parquet(const std::string& path, const std::string& column) {
  return std::make_unique<ColumnTexts>(path, column);
}

}  // namespace gpt2train
#else

namespace gpt2train {

std::unique_ptr<ParquetTexts> open_parquet(const std::string& path, const std::string&) {
  throw DataError(path,
                  "is Parquet, and this build lacks Apache Arrow's library for it; data/README.md "
                  "says where it is to be had, and how to do without it");
}

}  // namespace gpt2train
#endif
