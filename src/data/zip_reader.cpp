// From the end: the end record, the directory it points to, and the entries that this points to.
// Everything is taken from the directory and held against what stands before the entry.
#include <algorithm>
#include <cstring>
#include <utility>

#include "src/data/byte_reader.h"
#include "src/data/crc32.h"
#include "src/data/zip.h"

namespace gpt2train {
namespace {

constexpr std::uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr std::uint64_t kEndBytes = 22, kLocatorBytes = 20;
constexpr std::uint64_t kMaxComment = 0xFFFF;
constexpr std::uint32_t kWide = 0xFFFFFFFF;  // the number is in the 64-bit field instead

struct Directory {
  std::uint64_t entries = 0, bytes = 0, offset = 0;
};

class ZipParser {
 public:
  ZipParser(const std::string& path, std::span<const std::byte> bytes)
      : path_(path), bytes_(bytes) {}

  std::map<std::string, ZipEntry> parse() {
    const Directory directory = find_directory();
    if (directory.offset > bytes_.size() || directory.bytes > bytes_.size() - directory.offset) {
      at(directory.offset).fail("a directory of ", directory.bytes, " bytes, beyond the end");
    }
    ByteReader reader(path_, bytes_.first(directory.offset + directory.bytes), directory.offset);
    for (std::uint64_t i = 0; i < directory.entries; ++i) read_entry(reader, directory.offset);
    if (reader.left() != 0) reader.fail(reader.left(), " bytes after the last entry");
    check_overlaps();
    return std::move(entries_);
  }

 private:
  ByteReader at(std::uint64_t offset) const { return {path_, bytes_, offset}; }

  std::uint32_t signature_at(std::uint64_t offset) const {
    return at(offset).number<std::uint32_t>("a signature");
  }

  // The last one whose comment ends with the file.
  std::uint64_t find_end() const {
    for (std::uint64_t comment = 0; comment <= kMaxComment; ++comment) {
      if (kEndBytes + comment > bytes_.size()) break;
      const std::uint64_t offset = bytes_.size() - kEndBytes - comment;
      if (signature_at(offset) == kEnd &&
          at(offset + 20).number<std::uint16_t>("the comment") == comment) {
        return offset;
      }
    }
    at(bytes_.size()).fail("a ZIP archive without its end: the file is cut off");
  }

  Directory find_directory() const {
    const std::uint64_t end = find_end();
    if (end >= kLocatorBytes && signature_at(end - kLocatorBytes) == kLocator64) {
      return directory64(end - kLocatorBytes);
    }
    ByteReader reader = at(end + 8);
    reader.number<std::uint16_t>("entries on this disk");
    Directory directory;
    directory.entries = reader.number<std::uint16_t>("the number of entries");
    directory.bytes = reader.number<std::uint32_t>("the size of the directory");
    directory.offset = reader.number<std::uint32_t>("the place of the directory");
    return directory;
  }

  Directory directory64(std::uint64_t locator) const {
    const auto offset = at(locator + 8).number<std::uint64_t>("the place of the end");
    if (offset >= bytes_.size() || signature_at(offset) != kEnd64) {
      at(locator).fail("no 64-bit end record at byte ", offset);
    }
    ByteReader reader = at(offset + 32);
    Directory directory;
    directory.entries = reader.number<std::uint64_t>("the number of entries");
    directory.bytes = reader.number<std::uint64_t>("the size of the directory");
    directory.offset = reader.number<std::uint64_t>("the place of the directory");
    return directory;
  }

  void read_entry(ByteReader& reader, std::uint64_t directory_offset) {
    if (reader.number<std::uint32_t>("an entry") != kCentral) reader.fail("not a directory entry");
    reader.take(4, "versions");
    const auto flags = reader.number<std::uint16_t>("flags");
    const auto method = reader.number<std::uint16_t>("the method");
    reader.take(4, "the time");
    ZipEntry entry;
    entry.crc = reader.number<std::uint32_t>("the checksum");
    std::uint64_t packed = reader.number<std::uint32_t>("the size");
    std::uint64_t size = reader.number<std::uint32_t>("the size");
    const auto name_bytes = reader.number<std::uint16_t>("the name's length");
    const auto extra_bytes = reader.number<std::uint16_t>("the extra fields' length");
    const auto comment_bytes = reader.number<std::uint16_t>("the comment's length");
    reader.take(8, "attributes");
    std::uint64_t local = reader.number<std::uint32_t>("the offset");
    const std::string name(reader.text(name_bytes, "the name"));
    const std::uint64_t extra_offset = reader.offset();
    ByteReader extra(path_, reader.take(extra_bytes, "extra fields"), 0, extra_offset);
    widen(extra, {&size, &packed, &local});
    reader.take(comment_bytes, "the comment");

    if ((flags & 1u) != 0) reader.fail('"', name, "\" is encrypted");
    if (method != 0 || packed != size) {
      reader.fail('"', name, "\" is compressed, which torch.save never does");
    }
    place(name, entry, local, size, directory_offset);
  }

  // Fields of 64 bits, in this order, for those numbers alone that did not fit 32.
  static void widen(ByteReader& extra, std::initializer_list<std::uint64_t*> numbers) {
    while (extra.left() >= 4) {
      const auto id = extra.number<std::uint16_t>("a field");
      const auto bytes = extra.number<std::uint16_t>("a field");
      if (id != 1) {
        extra.take(bytes, "a field");
        continue;
      }
      for (std::uint64_t* number : numbers) {
        if (*number == kWide) *number = extra.number<std::uint64_t>("a field of 64 bits");
      }
      return;
    }
  }

  void place(const std::string& name, ZipEntry entry, std::uint64_t local, std::uint64_t size,
             std::uint64_t directory_offset) {
    ByteReader reader = at(local);
    if (reader.left() < 4 || reader.number<std::uint32_t>("an entry") != kLocal) {
      at(local).fail("\"", name, "\" is not where the directory says");
    }
    reader.take(22, "an entry");
    const auto name_bytes = reader.number<std::uint16_t>("the name's length");
    const auto extra_bytes = reader.number<std::uint16_t>("the extra fields' length");
    if (reader.text(name_bytes, "the name") != name) {
      reader.fail("the directory calls this \"", name, '"');
    }
    reader.take(extra_bytes, "extra fields");
    entry.offset = reader.offset();
    entry.bytes = reader.take(size, "an entry");
    if (reader.offset() > directory_offset) reader.fail('"', name, "\" reaches into the directory");
    ranges_.emplace_back(local, reader.offset());
    if (!entries_.emplace(name, entry).second) reader.fail('"', name, "\" is there twice");
  }

  void check_overlaps() {
    std::sort(ranges_.begin(), ranges_.end());
    for (std::size_t i = 1; i < ranges_.size(); ++i) {
      if (ranges_[i].first < ranges_[i - 1].second) at(ranges_[i].first).fail("entries overlap");
    }
  }

  const std::string& path_;
  std::span<const std::byte> bytes_;
  std::map<std::string, ZipEntry> entries_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges_;  // header and bytes of each
};

}  // namespace

bool is_zip(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof kLocal && std::memcmp(bytes.data(), &kLocal, sizeof kLocal) == 0;
}

std::map<std::string, ZipEntry> read_zip(const std::string& path,
                                         std::span<const std::byte> bytes) {
  return ZipParser(path, bytes).parse();
}

void check_sum(const std::string& path, const std::string& name, const ZipEntry& entry) {
  const std::uint32_t found = entry.crc == 0 ? 0 : crc32(entry.bytes);
  if (found != entry.crc) {
    throw DataError(path, entry.offset,
                    concat('"', name, "\" has the checksum ", found, ", expected ", entry.crc));
  }
}

}  // namespace gpt2train
