// A whole file, mapped read-only: pages are read when they are touched. Whoever truncates the file
// while it is mapped turns a later touch into a SIGBUS.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace gpt2train {

class MappedFile {
 public:
  // Throws DataError with the reason when the path is not a readable, non-empty regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

}  // namespace gpt2train
