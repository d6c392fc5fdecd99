// A file of GPT-2 weights as other programs write it: Hugging Face's safetensors (one file, or
// shards and their index) and pytorch_model.bin, nanoGPT's ckpt.pt, llm.c's model .bin. The format
// is told by the file's content, never by its name.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "gpt2train/data/stored_tensors.h"

namespace gpt2train {

class MappedFile;

struct WeightsFile {
  // By Hugging Face's names without "transformer.": "wte.weight", "h.0.attn.c_attn.weight", and
  // "lm_head.weight" where the file has one. Linear layers are (in, out) or (out, in): the shape
  // of c_attn tells.
  StoredTensors tensors;
  // What shapes do not tell, where the file does.
  std::optional<std::int64_t> n_head = {};
  std::string activation = {};  // as Hugging Face calls it: "gelu" (erf), "gelu_new" (tanh)
};

// Throws DataError on anything that the format does not allow, with the offset where there is one.
// `owners` keep `bytes` alive.
WeightsFile parse_weights(const std::string& path, std::span<const std::byte> bytes,
                          std::vector<std::shared_ptr<const void>> owners = {});

// A file, or a directory with model.safetensors, model.safetensors.index.json, pytorch_model.bin,
// ckpt.pt or model.bin, the first that is there; and, in a directory, Hugging Face's config.json.
WeightsFile open_weights(const std::string& path);

}  // namespace gpt2train
