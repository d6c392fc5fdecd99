// The texts of a Parquet file, where this build has Apache Arrow's library for them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace gpt2train {

class ParquetTexts {
 public:
  virtual ~ParquetTexts() = default;
  // The text of the next row, or false at the end. Throws DataError, also for a row without a text.
  virtual bool next(std::string& text) = 0;
  // As if rows were of equal size.
  virtual std::uint64_t bytes_read() const = 0;
};

// `column` is a column of strings. At any time a page of it is in memory, and some thousand rows.
// Throws DataError, always where this build lacks Arrow.
std::unique_ptr<ParquetTexts> open_parquet(const std::string& path, const std::string& column);

}  // namespace gpt2train
