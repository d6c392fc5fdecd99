#include "src/data/torch_file.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt2train::fuzz::read(data, size, [](std::span<const std::byte> bytes) {
    gpt2train::fuzz::touch(gpt2train::parse_torch_file("input", bytes, {}).tensors);
  });
}
