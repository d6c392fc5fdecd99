// Random tokens in a file of its own, for measurements without data: a step takes the same time
// whatever its tokens say.
#pragma once

#include <cstdint>
#include <string>

namespace gpt2train {

class SyntheticTokens {
 public:
  // Enough of them for sequences of `block_size`, in nanoGPT's format, in the directory for
  // temporary files. Throws DataError where they cannot be written.
  SyntheticTokens(std::int64_t block_size, std::int64_t vocab_size);
  // What was mapped stays readable.
  ~SyntheticTokens();
  SyntheticTokens(const SyntheticTokens&) = delete;
  SyntheticTokens& operator=(const SyntheticTokens&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace gpt2train
