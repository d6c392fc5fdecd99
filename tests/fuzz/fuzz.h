// What the fuzz targets share: a target reads an input as its format, and touches every byte that
// the reader hands out. DataError or ConfigError is the right answer to most; anything else is a
// finding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "gpt2train/core/error.h"
#include "gpt2train/data/stored_tensors.h"

namespace gpt2train::fuzz {

inline volatile std::size_t sink = 0;  // or the reading would be left out

inline void touch(const StoredTensors& tensors) {
  for (const auto& [name, tensor] : tensors.tensors()) {
    std::size_t sum = static_cast<std::size_t>(tensor.count()) + name.size();
    for (const std::byte byte : tensor.bytes) sum += static_cast<std::size_t>(byte);
    sink = sum;
  }
}

inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What holds for every input.
inline void check(bool holds) {
  if (!holds) std::abort();
}

template <class Read>
int read(const std::uint8_t* data, std::size_t size, Read read_as) {
  try {
    read_as(std::as_bytes(std::span(data, size)));
  } catch (const DataError&) {
  } catch (const ConfigError&) {
  }
  return 0;
}

}  // namespace gpt2train::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
