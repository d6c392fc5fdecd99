#include "gpt2train/tokenizer/json_line.h"
#include "gpt2train/tokenizer/unicode.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt2train::fuzz::read(data, size, [](std::span<const std::byte> bytes) {
    const std::string text =
        gpt2train::text_field(gpt2train::fuzz::text_of(bytes), "text", "input", 1);
    gpt2train::fuzz::check(gpt2train::valid_utf8_prefix(text) == text.size());
  });
}
