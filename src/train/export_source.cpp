#include "src/train/export_source.h"

#include <cstring>
#include <filesystem>

#include "gpt2train/core/convert.h"
#include "src/train/stored_moments.h"

namespace gpt2train {
namespace {

ModelConfig with_bias(ModelConfig config) {
  config.bias = true;
  return config;
}

std::string unfinished_name(const std::string& path) {
  std::string name = path + ".tmp";
  std::error_code ignored;
  std::filesystem::remove(name, ignored);  // of an export that was cut short
  return name;
}

}  // namespace

ExportSource::ExportSource(const std::string& checkpoint, const RunConfig& config, DType dtype)
    : checkpoint_(checkpoint),
      config_(config),
      dtype_(dtype),
      layout_(config.model),
      layout_with_bias_(with_bias(config.model)),
      weights_(checkpoint + "/model.safetensors") {
  for (const Parameter& parameter : layout_.list()) {
    check_shape(weights_, parameter.name, parameter.shape);
  }
}

const char* ExportSource::stored_dtype() const {
  return dtype_ == DType::kFloat32 ? "F32" : dtype_ == DType::kBFloat16 ? "BF16" : "F16";
}

std::vector<std::byte> ExportSource::weight(const Parameter& parameter, bool transposed) const {
  std::vector<std::byte> bytes(static_cast<std::size_t>(parameter.count()) * size_of(dtype_));
  if (!weights_.tensors().contains(parameter.name)) return bytes;
  const std::vector<float> values = weights_.floats(parameter.name);
  const std::int64_t rows = transposed ? parameter.shape[0] : 1;
  const std::int64_t columns = parameter.count() / rows;
  dispatch_any_float(dtype_, "export", [&]<class T>() {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        const T value = from_float<T>(values[r * columns + c]);
        const std::int64_t at = c * rows + r;
        std::memcpy(bytes.data() + static_cast<std::size_t>(at) * sizeof(T), &value, sizeof(T));
      }
    }
  });
  return bytes;
}

OutputFile::OutputFile(const std::string& path)
    : path_(path), unfinished_(unfinished_name(path)), writer_(unfinished_, "") {}

OutputFile::~OutputFile() {
  std::error_code ignored;
  if (!unfinished_.empty()) std::filesystem::remove(unfinished_, ignored);
}

void OutputFile::finish() {
  writer_.finish();
  std::error_code error;
  std::filesystem::rename(unfinished_, path_, error);
  if (error) throw CheckpointError(path_, "cannot rename: " + error.message());
  unfinished_.clear();
}

}  // namespace gpt2train
