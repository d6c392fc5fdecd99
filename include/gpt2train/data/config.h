// Where tokens come from.
#pragma once

#include <cstdint>
#include <string>

namespace gpt2train {

enum class TokenFormat : std::uint8_t {
  kAuto,     // by content: llm.c's magic number, else by ending: .txt is bytes, else nanoGPT
  kNanoGpt,  // raw little-endian uint16
  kLlmc,     // 1,024-byte header (magic 20240520, version 1, count), then uint16
  kBytes,    // any file, a byte a token: vocabulary 256
};

struct DataConfig {
  std::string train = "data/openwebtext/train.bin";  // a file or a glob of files
  std::string val = "data/openwebtext/val.bin";
  TokenFormat format = TokenFormat::kAuto;
  std::string vocab = {};  // a directory; for what is shown as text, not for training
};

}  // namespace gpt2train
