// What was taken is written and read again without an error, and is the same.
#include "gpt2train/config/load.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt2train::fuzz::read(data, size, [](std::span<const std::byte> bytes) {
    const std::string text(gpt2train::fuzz::text_of(bytes));
    const std::string written = gpt2train::dump_config(gpt2train::parse_config(text, "input", {}));
    const auto read_again = [&]() noexcept {
      return gpt2train::dump_config(gpt2train::parse_config(written, "written", {}));
    };
    gpt2train::fuzz::check(read_again() == written);
  });
}
