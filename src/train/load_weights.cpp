#include "src/train/load_weights.h"

#include <filesystem>

namespace gpt2train {

std::string weights_file(const std::string& init_from) {
  const std::filesystem::path path(init_from);
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored) ? (path / "model.safetensors").string()
                                                      : init_from;
}

bool is_hf_orientation(const SafetensorsFile& file) {
  const auto it = file.metadata().find("linear_layers");
  return it == file.metadata().end() || it->second != "out_in";
}

}  // namespace gpt2train
