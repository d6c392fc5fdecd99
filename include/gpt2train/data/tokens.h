// Token files, memory-mapped: nothing is read until it is used. Formats in data/README.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpt2train/data/config.h"

namespace gpt2train {

class MappedFile;

// One split: the files of a name or glob, in lexical order.
class TokenSource {
 public:
  // Opens, checks size and header of each file, and that every token is below vocab_size (once,
  // at start, over the whole file in parallel). Throws DataError with path and byte offset.
  TokenSource(const std::string& file_or_glob, TokenFormat format, std::int64_t vocab_size);
  ~TokenSource();
  TokenSource(TokenSource&&) noexcept;
  TokenSource& operator=(TokenSource&&) noexcept;

  std::int64_t token_count() const;
  std::int64_t file_count() const;
  TokenFormat format() const;  // of the first file; never kAuto

  // Positions at which a window of `length` tokens starts and stays within one file.
  std::int64_t window_count(std::int64_t length) const;
  // Copies the window with this index into `out` (out.size() tokens), widened to int32.
  void read_window(std::int64_t window, std::span<std::int32_t> out) const;

 private:
  struct File;
  std::vector<File> files_;
};

}  // namespace gpt2train
