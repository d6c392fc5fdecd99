#include <array>
#include <cstring>
#include <limits>

#include "gpt2train/core/error.h"
#include "src/data/crc32.h"
#include "src/data/zip.h"

namespace gpt2train {
namespace {

constexpr std::uint64_t kAlignment = 64;
constexpr std::uint16_t kVersion = 45;       // the first with numbers of 64 bits
constexpr std::uint16_t kPadding = 0x4246;   // a field that readers skip, as torch has it
constexpr std::uint16_t kEarliest = 0x0021;  // 1 January 1980: no time is kept

// Little-endian numbers, one after the other.
class Record {
 public:
  template <class T>
  Record& add(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Record& text(const std::string& value) {
    bytes_ += value;
    return *this;
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

 private:
  std::string bytes_;
};

std::uint16_t length_of(const std::string& name) {
  GPT2_CHECK(name.size() <= std::numeric_limits<std::uint16_t>::max(), "a long name");
  return static_cast<std::uint16_t>(name.size());
}

}  // namespace

void ZipWriter::put(std::span<const std::byte> bytes) {
  sink_(bytes);
  offset_ += bytes.size();
}

void ZipWriter::add(const std::string& name, std::span<const std::byte> bytes) {
  GPT2_CHECK(bytes.size() < std::numeric_limits<std::uint32_t>::max(), name, " has ", bytes.size(),
             " bytes");
  const Written entry{name, offset_, static_cast<std::uint32_t>(bytes.size()), crc32(bytes)};
  const std::uint64_t begin = offset_ + 30 + name.size() + 4;
  const auto padding = static_cast<std::uint16_t>((kAlignment - begin % kAlignment) % kAlignment);
  Record record;
  record.add(std::uint32_t{0x04034b50}).add(kVersion).add(std::uint16_t{0}).add(std::uint16_t{0});
  record.add(std::uint16_t{0}).add(kEarliest).add(entry.crc).add(entry.bytes).add(entry.bytes);
  record.add(length_of(name)).add(static_cast<std::uint16_t>(4 + padding)).text(name);
  record.add(kPadding).add(padding).text(std::string(padding, 'Z'));
  put(record.bytes());
  put(bytes);
  written_.push_back(entry);
}

void ZipWriter::finish() {
  const std::uint64_t directory = offset_;
  for (const Written& entry : written_) {
    Record record;
    record.add(std::uint32_t{0x02014b50}).add(kVersion).add(kVersion).add(std::uint16_t{0});
    record.add(std::uint16_t{0}).add(std::uint16_t{0}).add(kEarliest).add(entry.crc);
    record.add(entry.bytes).add(entry.bytes).add(length_of(entry.name)).add(std::uint16_t{12});
    record.add(std::uint16_t{0}).add(std::uint16_t{0}).add(std::uint16_t{0}).add(std::uint32_t{0});
    record.add(~std::uint32_t{0}).text(entry.name);
    record.add(std::uint16_t{1}).add(std::uint16_t{8}).add(entry.offset);
    put(record.bytes());
  }
  const std::uint64_t end = offset_;
  const std::uint64_t count = written_.size();
  Record record;
  record.add(std::uint32_t{0x06064b50}).add(std::uint64_t{44}).add(kVersion).add(kVersion);
  record.add(std::uint32_t{0}).add(std::uint32_t{0}).add(count).add(count);
  record.add(end - directory).add(directory);
  record.add(std::uint32_t{0x07064b50}).add(std::uint32_t{0}).add(end).add(std::uint32_t{1});
  record.add(std::uint32_t{0x06054b50}).add(std::uint32_t{0}).add(~std::uint32_t{0});
  record.add(~std::uint32_t{0}).add(~std::uint32_t{0}).add(std::uint16_t{0});
  put(record.bytes());
}

}  // namespace gpt2train
