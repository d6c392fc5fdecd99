#include "src/data/hf_directory.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/data/mapped_file.h"
#include "gpt2train/data/safetensors.h"

namespace gpt2train {
namespace {

using Json = nlohmann::json;

constexpr double kLayerNormEpsilon = 1e-5;

Json read_json(const std::string& path) {
  const MappedFile file(path);
  const auto* text = reinterpret_cast<const char*>(file.bytes().data());
  try {
    return Json::parse(text, text + file.bytes().size());
  } catch (const Json::exception& error) {
    throw DataError(path, concat("is not JSON: ", error.what()).substr(0, 500));
  }
}

// {"weight_map": {tensor: file}}: each tensor from the shard that the index names.
StoredTensors open_shards(const std::string& directory, const std::string& index) {
  const Json json = read_json(index);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object()) throw DataError(index, "has no weight_map");
  std::map<std::string, SafetensorsFile> shards;
  std::map<std::string, StoredTensor> tensors;
  for (const auto& [name, file] : map->items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (shard.empty() || shard.find('/') != std::string::npos || shard == "..") {
      throw DataError(index,
                      concat("\"", name.substr(0, 200), "\" is in no file of this directory"));
    }
    auto found = shards.find(shard);
    if (found == shards.end()) {
      found = shards.try_emplace(shard, directory + '/' + shard).first;
    }
    tensors.emplace(name, found->second.at(name));
  }
  std::vector<std::shared_ptr<const void>> owners;
  for (const auto& entry : shards) {
    owners.insert(owners.end(), entry.second.owners().begin(), entry.second.owners().end());
  }
  return {index, std::move(owners), std::move(tensors)};
}

// What config.json says of the function that the weights are for. Options of Hugging Face's GPT-2
// that nothing here computes are refused.
void apply_config(const std::string& path, WeightsFile& file) {
  const Json json = read_json(path);
  try {
    if (const std::string type = json.value("model_type", "gpt2"); type != "gpt2") {
      throw DataError(path, concat("model_type is \"", type, "\", expected \"gpt2\""));
    }
    if (json.value("scale_attn_by_inverse_layer_idx", false) ||
        !json.value("scale_attn_weights", true)) {
      throw DataError(path, "scales attention in another way than GPT-2, which is not supported");
    }
    if (const double epsilon = json.value("layer_norm_epsilon", kLayerNormEpsilon);
        epsilon != kLayerNormEpsilon) {
      throw DataError(path, concat("layer_norm_epsilon is ", epsilon, ", expected 1e-05"));
    }
    if (json.contains("n_head")) file.n_head = json.at("n_head").get<std::int64_t>();
    file.activation = json.value("activation_function", "gelu_new");
  } catch (const Json::exception& error) {
    throw DataError(path, concat(error.what()).substr(0, 500));
  }
}

}  // namespace

WeightsFile open_weights_directory(const std::string& directory) {
  const auto has = [&](const char* name) {
    std::error_code ignored;
    return std::filesystem::exists(directory + '/' + name, ignored);
  };
  constexpr const char* kIndex = "model.safetensors.index.json";
  std::optional<WeightsFile> file;
  for (const char* name :
       {"model.safetensors", kIndex, "pytorch_model.bin", "ckpt.pt", "model.bin"}) {
    if (!has(name)) continue;
    const std::string path = directory + '/' + name;
    if (name == kIndex) {
      file = WeightsFile{.tensors = with_plain_names(open_shards(directory, path))};
    } else {
      file = open_weights(path);
    }
    break;
  }
  if (!file) {
    throw DataError(directory,
                    "has no model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
                    "ckpt.pt or model.bin");
  }
  if (has("config.json")) apply_config(directory + "/config.json", *file);
  return std::move(*file);
}

}  // namespace gpt2train
