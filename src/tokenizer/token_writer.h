// Token files of one split, written beside their names and renamed when all is there. Where it goes
// on after a kill follows from a count of tokens alone.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gpt2train/tokenizer/tokenizer.h"
#include "src/tokenizer/files.h"

namespace gpt2train {

struct TokenFiles {
  std::string directory;
  std::string split;               // "train" or "val"
  bool llmc = false;               // shards with a header, else one file without
  std::uint64_t shard_tokens = 0;  // of llm.c's shards, the last one excepted

  // train.bin, or train_000000.bin and so on; shards() of them for so many tokens.
  std::string path(std::uint64_t shard) const;
  std::uint64_t shards(std::uint64_t tokens) const;
};

class TokenWriter {
 public:
  // Goes on behind `tokens`, which an earlier writer has written and synced; forgets what is
  // beyond.
  TokenWriter(TokenFiles files, std::uint64_t tokens);

  void write(std::span<const Token> tokens);
  // After it, all tokens so far survive a crash.
  void sync();
  std::uint64_t tokens() const { return tokens_; }

 private:
  void open_shard();

  TokenFiles files_;
  std::uint64_t tokens_ = 0;
  FileDescriptor file_;
  std::string path_;  // of the file that is open
};

// Gives `tokens` tokens their final names; those that have them already keep them.
void publish(const TokenFiles& files, std::uint64_t tokens);

}  // namespace gpt2train
