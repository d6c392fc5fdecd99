#include "src/cli/synthetic_tokens.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/rng.h"

namespace gpt2train {

SyntheticTokens::SyntheticTokens(std::int64_t block_size, std::int64_t vocab_size)
    : path_((std::filesystem::temp_directory_path() / "gpt2train-tokens-XXXXXX").string()) {
  constexpr std::int64_t kAtLeast = 1 << 20;
  const auto count = static_cast<std::size_t>(std::max(kAtLeast, 4 * block_size));
  std::vector<std::uint16_t> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Philox4 bits = philox({static_cast<std::uint32_t>(i), 0, 0, 0}, 0);
    tokens[i] = static_cast<std::uint16_t>(bits[0] % static_cast<std::uint64_t>(vocab_size));
  }
  const int file = mkstemp(path_.data());
  if (file < 0) throw DataError(path_, concat("cannot be made: ", std::strerror(errno)));
  const auto bytes = static_cast<ssize_t>(count * sizeof tokens[0]);
  const bool written = write(file, tokens.data(), static_cast<std::size_t>(bytes)) == bytes;
  close(file);
  if (written) return;
  unlink(path_.c_str());
  throw DataError(path_, concat("cannot be written: ", std::strerror(errno)));
}

SyntheticTokens::~SyntheticTokens() {
  unlink(path_.c_str());
}

}  // namespace gpt2train
