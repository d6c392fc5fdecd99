// llm.c's model file (write_model in its train_gpt2.py): 256 int32 of header, then the parameters
// without names, each kind for all layers in turn. Version 3 is float32, version 5 bfloat16; linear
// layers are (out, in), and the token table has its vocabulary padded with rows of zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpt2train/data/weights_file.h"

namespace gpt2train {

struct LlmcModel {
  std::string dtype = "F32";  // or "BF16"
  std::int64_t block_size = 0, vocab_size = 0, n_layer = 0, n_head = 0, n_embd = 0;
  std::int64_t padded_vocab = 0;
};

struct LlmcTensor {
  std::string name;                 // Hugging Face's
  std::vector<std::int64_t> shape;  // (out, in)
  std::int64_t padding_rows = 0;    // of zeros that follow
};

// Every parameter, in the file's order.
std::vector<LlmcTensor> llmc_tensors(const LlmcModel& model);

std::string llmc_header(const LlmcModel& model);

bool is_llmc_model(std::span<const std::byte> bytes);

// Throws DataError with the offset where sizes are not possible or the file has another length.
WeightsFile parse_llmc_model(const std::string& path, std::span<const std::byte> bytes,
                             std::vector<std::shared_ptr<const void>> owners);

}  // namespace gpt2train
