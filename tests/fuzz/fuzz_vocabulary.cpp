// tokenizer.json, or vocab.bpe and, behind a zero byte, encoder.json. A vocabulary that was taken
// gives any text back.
#include "gpt2train/tokenizer/bpe.h"
#include "gpt2train/tokenizer/unicode.h"
#include "tests/fuzz/fuzz.h"

namespace gpt2train {
namespace {

Vocabulary parse(std::string_view text) {
  if (text.starts_with('{')) return parse_tokenizer_json({"input", std::string(text)});
  const std::size_t zero = text.find('\0');
  std::optional<NamedText> numbers;
  if (zero != std::string_view::npos) numbers = {"numbers", std::string(text.substr(zero + 1))};
  return parse_merges({"input", std::string(text.substr(0, zero))}, numbers);
}

void check_gives_back(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<Token> tokens;
  tokenizer.make_encoder()->encode(text, SpecialTokens::kAsText, tokens);
  std::string back;
  for (const Token token : tokens) back += tokenizer.bytes_of(token);
  fuzz::check(back == replace_invalid_utf8(text));
}

}  // namespace
}  // namespace gpt2train

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return gpt2train::fuzz::read(data, size, [](std::span<const std::byte> bytes) {
    const std::string_view text = gpt2train::fuzz::text_of(bytes);
    gpt2train::check_gives_back(*make_bpe_tokenizer(gpt2train::parse(text)), text);
  });
}
