// ZIP archives of stored entries (PKWARE's APPNOTE 6.3): what torch.save writes, and nothing that
// is compressed, encrypted or split. Sizes and offsets may be of 64 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace gpt2train {

struct ZipEntry {
  std::span<const std::byte> bytes;
  std::uint64_t offset = 0;  // of the bytes in the file
  std::uint32_t crc = 0;     // as the directory says; of 0 no one knows the sum
};

bool is_zip(std::span<const std::byte> bytes);

// Entries by name. Throws DataError with the offset on anything that the format does not allow, on
// entries that overlap and on names that are there twice. Sums are not looked at.
std::map<std::string, ZipEntry> read_zip(const std::string& path, std::span<const std::byte> bytes);

// Throws DataError where the entry's bytes are not those that were summed.
void check_sum(const std::string& path, const std::string& name, const ZipEntry& entry);

// Writes entries one after the other; the bytes of each begin at a multiple of 64, as torch's do.
class ZipWriter {
 public:
  using Sink = std::function<void(std::span<const std::byte>)>;
  explicit ZipWriter(Sink sink) : sink_(std::move(sink)) {}

  // Below 4 GiB.
  void add(const std::string& name, std::span<const std::byte> bytes);
  void finish();

 private:
  struct Written {
    std::string name;
    std::uint64_t offset;
    std::uint32_t bytes, crc;
  };
  void put(std::span<const std::byte> bytes);

  Sink sink_;
  std::vector<Written> written_;
  std::uint64_t offset_ = 0;
};

}  // namespace gpt2train
