// A checkpoint's tensors as an export needs them, one at a time, and the files they go to.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt2train/data/safetensors.h"
#include "gpt2train/model/parameters.h"
#include "gpt2train/train/export.h"
#include "src/train/summed_file.h"

namespace gpt2train {

class ExportSource {
 public:
  ExportSource(const std::string& checkpoint, const RunConfig& config, DType dtype);

  const std::string& checkpoint() const { return checkpoint_; }
  const RunConfig& config() const { return config_; }
  DType dtype() const { return dtype_; }
  const char* stored_dtype() const;  // as safetensors name it
  // Of this model, and of the same model with biases.
  const ParameterLayout& layout() const { return layout_; }
  const ParameterLayout& layout_with_bias() const { return layout_with_bias_; }

  // In dtype(), (out, in) or turned; zeros for a bias that the model does not have.
  std::vector<std::byte> weight(const Parameter& parameter, bool transposed) const;

 private:
  const std::string checkpoint_;
  const RunConfig& config_;
  DType dtype_;
  ParameterLayout layout_, layout_with_bias_;
  SafetensorsFile weights_;
};

// A file that has its name only once it is whole.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes) { writer_.write(bytes); }
  void write(std::string_view text) { writer_.write(text); }
  void finish();

 private:
  std::string path_, unfinished_;
  FileWriter writer_;
};

// The names of the files, without the directory.
std::vector<std::string> hf_files();
std::vector<std::string> llmc_files();
std::vector<std::string> nanogpt_files();

void export_hf(const ExportSource& source, const std::string& directory);
void export_llmc(const ExportSource& source, const std::string& directory);
void export_nanogpt(const ExportSource& source, const std::string& directory);

}  // namespace gpt2train
