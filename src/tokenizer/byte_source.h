// The bytes of a file or of standard input, gzip and zstd unpacked: what they are is told by their
// first bytes, not by a name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace gpt2train {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills `data` with `size` bytes, fewer only at the end. Throws DataError.
  virtual std::size_t read(char* data, std::size_t size) = 0;
  // Of the file as it is on disk.
  virtual std::uint64_t packed_bytes_read() const = 0;
};

// "-" is standard input.
std::unique_ptr<ByteSource> open_bytes(const std::string& path);

}  // namespace gpt2train
