#include "gpt2train/config/load.h"
#include "src/config/python.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt2train::fuzz::read(data, size, [](std::span<const std::byte> bytes) {
    const std::string text(gpt2train::fuzz::text_of(bytes));
    gpt2train::parse_config("", "input", gpt2train::read_python(text, "input").settings);
  });
}
