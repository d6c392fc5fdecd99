// The pickle of a torch file by itself: no checksum and no archive keeps inputs from it.
#include "src/data/pickle_reader.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt2train::fuzz::read(data, size, [](std::span<const std::byte> bytes) {
    const gpt2train::Pickle pickle("input", bytes, 0);
    static_cast<void>(pickle.find(pickle.root(), "model"));
  });
}
