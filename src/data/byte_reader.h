// Reads numbers and texts of a file that is not trusted: nothing is read beyond its end, and every
// error has its offset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "gpt2train/core/error.h"

namespace gpt2train {

class ByteReader {
 public:
  // Begins at `offset` of `bytes`, which begin at `base` of the file `path`.
  ByteReader(const std::string& path, std::span<const std::byte> bytes, std::uint64_t offset = 0,
             std::uint64_t base = 0)
      : path_(path), bytes_(bytes), offset_(offset), base_(base) {}

  const std::string& path() const { return path_; }
  std::uint64_t offset() const { return offset_; }
  std::uint64_t left() const { return offset_ < bytes_.size() ? bytes_.size() - offset_ : 0; }

  std::span<const std::byte> take(std::uint64_t count, const char* what) {
    if (count > left()) fail(what, " takes ", count, " bytes, and ", left(), " are left");
    const std::span<const std::byte> taken = bytes_.subspan(offset_, count);
    offset_ += count;
    return taken;
  }

  std::string_view text(std::uint64_t count, const char* what) {
    const std::span<const std::byte> taken = take(count, what);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  // Little-endian, as the machine.
  template <class T>
  T number(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... problem) const {
    throw DataError(path_, base_ + offset_, concat(problem...).substr(0, 500));
  }

 private:
  const std::string& path_;
  std::span<const std::byte> bytes_;
  std::uint64_t offset_;
  std::uint64_t base_;
};

}  // namespace gpt2train
