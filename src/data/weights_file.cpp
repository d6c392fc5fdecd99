// Which reader a file is for, and one way to name what they all find.
#include "gpt2train/data/weights_file.h"

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/data/llmc_model.h"
#include "gpt2train/data/mapped_file.h"
#include "gpt2train/data/safetensors.h"
#include "src/data/hf_directory.h"
#include "src/data/torch_file.h"
#include "src/data/zip.h"

namespace gpt2train {
namespace {

// Where the metadata have the model's settings, as JSON.
std::optional<std::int64_t> heads_of(const SafetensorsFile& file) {
  const auto config = file.metadata().find("config");
  if (config == file.metadata().end()) return std::nullopt;
  const nlohmann::json json = nlohmann::json::parse(config->second, nullptr, false);
  const auto heads = json.is_object() ? json.find("n_head") : json.end();
  if (heads == json.end() || !heads->is_number_integer()) return std::nullopt;
  return heads->get<std::int64_t>();
}

WeightsFile parse_any(const std::string& path, std::span<const std::byte> bytes,
                      std::vector<std::shared_ptr<const void>> owners) {
  if (is_zip(bytes)) return parse_torch_file(path, bytes, std::move(owners));
  if (is_llmc_model(bytes)) return parse_llmc_model(path, bytes, std::move(owners));
  // A pickle in the open, whose first value is a number of ten bytes.
  constexpr std::string_view kOldTorch = "\x80\x02\x8A\x0A";
  if (bytes.size() >= kOldTorch.size() &&
      std::memcmp(bytes.data(), kOldTorch.data(), kOldTorch.size()) == 0) {
    throw DataError(path,
                    "is torch.save's format from before PyTorch 1.6: load it with PyTorch and save "
                    "it again");
  }
  // Safetensors have no magic number, but their JSON begins here.
  if (bytes.size() > 8 && bytes[8] != std::byte{'{'}) {
    throw DataError(path,
                    "is no file of weights: neither safetensors, nor torch.save's, nor llm.c's");
  }
  const SafetensorsFile file(path, bytes);
  return {.tensors = {path, std::move(owners), file.tensors()}, .n_head = heads_of(file)};
}

// What torch.compile and the module around the layers put before a name.
std::string plain_name(const std::string& name) {
  std::string_view rest = name;
  for (const std::string_view prefix : {"_orig_mod.", "transformer."}) {
    if (rest.starts_with(prefix)) rest.remove_prefix(prefix.size());
  }
  return std::string(rest);
}

}  // namespace

StoredTensors with_plain_names(const StoredTensors& file) {
  std::map<std::string, StoredTensor> tensors;
  for (const auto& [name, tensor] : file.tensors()) {
    if (!tensors.emplace(plain_name(name), tensor).second) {
      throw DataError(file.path(), concat('"', plain_name(name), "\" is there twice, also as \"",
                                          name.substr(0, 200), '"'));
    }
  }
  return {file.path(), file.owners(), std::move(tensors)};
}

WeightsFile parse_weights(const std::string& path, std::span<const std::byte> bytes,
                          std::vector<std::shared_ptr<const void>> owners) {
  WeightsFile file = parse_any(path, bytes, std::move(owners));
  file.tensors = with_plain_names(file.tensors);
  return file;
}

WeightsFile open_weights(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return open_weights_directory(path);
  const auto file = std::make_shared<const MappedFile>(path);
  return parse_weights(path, file->bytes(), {file});
}

}  // namespace gpt2train
