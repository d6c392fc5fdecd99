#include "gpt2train/data/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt2train::fuzz::read(data, size, [](std::span<const std::byte> bytes) {
    gpt2train::fuzz::touch(gpt2train::SafetensorsFile("input", bytes));
  });
}
