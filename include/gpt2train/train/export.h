// A checkpoint in the form that another program reads.
#pragma once

#include <string>
#include <vector>

#include "gpt2train/train/run_config.h"

namespace gpt2train {

enum class ExportFormat : std::uint8_t {
  kHuggingFace,  // model.safetensors, config.json, generation_config.json
  kLlmc,         // model.bin
  kNanoGpt,      // ckpt.pt, with the optimizer
};

struct ExportOptions {
  ExportFormat format = ExportFormat::kHuggingFace;
  DType dtype = DType::kFloat32;  // of the weights, rounded to nearest; llm.c has no float16
  bool force = false;             // also where the reader computes another GELU than the model
};

// Writes the files into `directory`, which is made where it is not there, and returns their paths.
// Biases that the model does not have are written as zeros where the reader wants them. Throws
// ConfigError where a file is there already or the reader would compute another function,
// CheckpointError where a file cannot be written, DataError where the checkpoint is not of
// `config`.
std::vector<std::string> export_checkpoint(const std::string& checkpoint, const RunConfig& config,
                                           const ExportOptions& options,
                                           const std::string& directory);

}  // namespace gpt2train
