#include "gpt2train/tokenizer/meta.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt2train::fuzz::read(data, size, [](std::span<const std::byte> bytes) {
    const auto tokenizer =
        gpt2train::parse_meta(std::string(gpt2train::fuzz::text_of(bytes)), "input");
    const auto last = static_cast<gpt2train::Token>(tokenizer->vocab_size() - 1);
    std::vector<gpt2train::Token> tokens;
    tokenizer->make_encoder()->encode(tokenizer->bytes_of(last), gpt2train::SpecialTokens::kAsText,
                                      tokens);
    gpt2train::fuzz::check(tokens == std::vector{last});
  });
}
