// The checksum of ZIP (ISO 3309, reflected), eight bytes at a time by eight tables.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace gpt2train {

inline std::uint32_t crc32(std::span<const std::byte> bytes) {
  using Tables = std::array<std::array<std::uint32_t, 256>, 8>;
  static constexpr Tables kTables = [] {
    Tables tables{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1u ? 0xEDB88320u : 0u);
      tables[0][i] = value;
    }
    for (std::uint32_t i = 0; i < 256; ++i) {
      for (std::size_t t = 1; t < tables.size(); ++t) {
        const std::uint32_t before = tables[t - 1][i];
        tables[t][i] = before >> 8 ^ tables[0][before & 0xFFu];
      }
    }
    return tables;
  }();

  std::uint32_t crc = ~0u;
  while (bytes.size() >= 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof word);
    word ^= crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][word >> (8 * i) & 0xFFu];
    bytes = bytes.subspan(8);
  }
  for (const std::byte byte : bytes) {
    crc = crc >> 8 ^ kTables[0][(crc ^ static_cast<std::uint32_t>(byte)) & 0xFFu];
  }
  return ~crc;
}

}  // namespace gpt2train
