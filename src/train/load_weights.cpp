#include "gpt2train/train/load_weights.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/model/parameters.h"

namespace gpt2train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGpt2Names[] = {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"};
constexpr const char* kHeadName = "lm_head.weight";

// ---- where ----------------------------------------------------------------------------------

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string hub_cache() {
  if (const std::string cache = variable("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const std::string home = variable("HF_HOME"); !home.empty()) return home + "/hub";
  return variable("HOME") + "/.cache/huggingface/hub";
}

bool has_weights(const fs::path& directory) {
  std::error_code ignored;
  return fs::exists(directory / "model.safetensors", ignored) ||
         fs::exists(directory / "model.safetensors.index.json", ignored) ||
         fs::exists(directory / "pytorch_model.bin", ignored);
}

// The snapshot that refs/main names, else the first with weights; empty where there is none.
std::string cached_snapshot(const std::string& repository) {
  const fs::path root(repository);
  std::string commit;
  std::getline(std::ifstream(root / "refs" / "main"), commit);
  if (!commit.empty() && has_weights(root / "snapshots" / commit)) {
    return root / "snapshots" / commit;
  }
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator it(root / "snapshots", error), end; !error && it != end;
       it.increment(error)) {
    if (has_weights(it->path())) found.push_back(it->path());
  }
  return found.empty() ? "" : *std::min_element(found.begin(), found.end());
}

// ---- what -----------------------------------------------------------------------------------

const std::vector<std::int64_t>& matrix_shape(const StoredTensors& file, const std::string& name) {
  const std::vector<std::int64_t>& shape = file.at(name).shape;
  if (shape.size() != 2) {
    throw DataError(file.path(), concat(name, " has the shape ", shape_text(shape),
                                        ", expected two dimensions"));
  }
  return shape;
}

bool all_zero(const StoredTensor& tensor) {
  return std::all_of(tensor.bytes.begin(), tensor.bytes.end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

bool same(const StoredTensor& a, const StoredTensor& b) {
  if (a.dtype != b.dtype || a.bytes.size() != b.bytes.size()) return false;
  return a.bytes.data() == b.bytes.data() ||
         std::memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

std::vector<Parameter> biases_of(ModelConfig config) {
  config.bias = true;
  std::vector<Parameter> biases;
  const ParameterLayout layout(config);
  for (const Parameter& parameter : layout.list()) {
    if (parameter.name.ends_with(".bias")) biases.push_back(parameter);
  }
  return biases;
}

// A bias that is zero may be left out.
bool has_biases(const StoredTensors& file, const ModelConfig& config) {
  const std::vector<Parameter> biases = biases_of(config);
  return std::any_of(biases.begin(), biases.end(), [&](const Parameter& parameter) {
    const auto found = file.tensors().find(parameter.name);
    return found != file.tensors().end() && !all_zero(found->second);
  });
}

// Everything that differs, with the settings that would fit: one message instead of one a run.
void check_sizes(const StoredTensors& file, const ModelConfig& found, const ModelConfig& config) {
  std::string differences, flags;
  const auto compare = [&](const char* name, std::int64_t in_file, std::int64_t in_settings) {
    if (in_file == in_settings) return;
    differences += concat(differences.empty() ? "" : ", ", name, " is ", in_file,
                          " in the file and ", in_settings, " in the settings");
    flags += concat(" --", name, '=', in_file);
  };
  compare("n_layer", found.n_layer, config.n_layer);
  compare("n_head", found.n_head, config.n_head);
  compare("n_embd", found.n_embd, config.n_embd);
  compare("vocab_size", found.vocab_size, config.vocab_size);
  // The table of positions may be cut, not grown.
  if (found.block_size < config.block_size) {
    compare("block_size", found.block_size, config.block_size);
  }
  if (!config.bias && has_biases(file, config)) {
    differences +=
        concat(differences.empty() ? "" : ", ", "the file has biases and the settings have none");
    flags += " --bias=true";
  }
  if (differences.empty()) return;
  const std::string vocabulary =
      found.vocab_size == config.vocab_size
          ? ""
          : "; in memory the vocabulary is padded to a multiple of 128 whatever it is";
  throw DataError(file.path(),
                  concat("another model: ", differences, "; what fits is", flags, vocabulary));
}

// wte is the head as well.
void check_head(const StoredTensors& file) {
  const auto head = file.tensors().find(kHeadName);
  if (head == file.tensors().end() || same(head->second, file.at("wte.weight"))) return;
  throw DataError(file.path(),
                  "lm_head.weight is not wte.weight: GPT-2's head and token table are one tensor, "
                  "and a model with a head of its own cannot be loaded");
}

// Adds zeros where the file has no bias at all, and returns whether it did.
bool add_biases(const ModelConfig& config, std::map<std::string, StoredTensor>& tensors,
                std::vector<std::shared_ptr<const void>>& owners) {
  const std::vector<Parameter> biases = biases_of(config);
  if (std::any_of(biases.begin(), biases.end(),
                  [&](const Parameter& bias) { return tensors.contains(bias.name); })) {
    return false;
  }
  const auto zeros = std::make_shared<std::vector<float>>(4 * config.n_embd);
  owners.push_back(zeros);
  for (const Parameter& bias : biases) {
    const auto values = std::span(*zeros).first(static_cast<std::size_t>(bias.count()));
    tensors.emplace(
        bias.name,
        StoredTensor{.dtype = "F32", .shape = {bias.count()}, .bytes = std::as_bytes(values)});
  }
  return true;
}

}  // namespace

std::string find_weights(const std::string& init_from) {
  const auto name = std::find(std::begin(kGpt2Names), std::end(kGpt2Names), init_from);
  std::error_code ignored;
  if (name == std::end(kGpt2Names) || fs::exists(init_from, ignored)) return init_from;
  const std::string cache = hub_cache();
  for (const char* owner : {"models--openai-community--", "models--"}) {
    const std::string snapshot = cached_snapshot(concat(cache, '/', owner, init_from));
    if (!snapshot.empty()) return snapshot;
  }
  throw DataError(init_from, concat("is neither a directory here nor in ", cache,
                                    "; get it by: hf download ", "openai-community/", init_from,
                                    " model.safetensors config.json --local-dir ", init_from));
}

ModelConfig model_of(const WeightsFile& file, const ModelConfig& otherwise) {
  const StoredTensors& tensors = file.tensors;
  ModelConfig model = otherwise;
  const std::vector<std::int64_t>& wte = matrix_shape(tensors, "wte.weight");
  const std::vector<std::int64_t>& wpe = matrix_shape(tensors, "wpe.weight");
  if (wte[1] != wpe[1] || std::min({wte[0], wte[1], wpe[0]}) < 1) {
    throw DataError(tensors.path(), concat("wte.weight ", shape_text(wte), " and wpe.weight ",
                                           shape_text(wpe), " are not two tables of one width"));
  }
  if (file.n_head && (*file.n_head < 1 || wte[1] % *file.n_head != 0)) {
    throw DataError(tensors.path(), concat(*file.n_head, " heads for a width of ", wte[1]));
  }
  model.vocab_size = wte[0];
  model.n_embd = wte[1];
  model.block_size = wpe[0];
  static_cast<void>(tensors.at("h.0.ln_1.weight"));
  model.n_layer = 1;
  while (tensors.tensors().contains(concat("h.", model.n_layer, ".ln_1.weight"))) ++model.n_layer;
  model.bias = tensors.tensors().contains("ln_f.bias");
  model.n_head = file.n_head.value_or(otherwise.n_head);
  if (file.activation == "gelu") {
    model.gelu = GeluForm::kErf;
  } else if (file.activation == "gelu_new" || file.activation == "gelu_pytorch_tanh") {
    model.gelu = GeluForm::kTanh;
  } else if (!file.activation.empty()) {
    throw DataError(tensors.path(), concat("the activation function is ", file.activation,
                                           ", expected gelu_new (tanh) or gelu (erf)"));
  }
  return model;
}

FittedWeights fit_weights(const WeightsFile& file, const ModelConfig& config) {
  const ModelConfig found = model_of(file, config);
  check_sizes(file.tensors, found, config);
  check_head(file.tensors);

  std::vector<std::string> notes;
  std::map<std::string, StoredTensor> tensors = file.tensors.tensors();
  std::vector<std::shared_ptr<const void>> owners = file.tensors.owners();
  if (found.block_size > config.block_size) {
    StoredTensor& wpe = tensors.at("wpe.weight");
    wpe.bytes = wpe.bytes.first(wpe.bytes.size() / static_cast<std::size_t>(found.block_size) *
                                static_cast<std::size_t>(config.block_size));
    wpe.shape[0] = config.block_size;
    notes.push_back(concat("of ", found.block_size, " positions the first ", config.block_size,
                           " are taken, which is block_size"));
  }
  if (config.bias && add_biases(config, tensors, owners)) {
    notes.emplace_back("the file has no biases; they begin at zero");
  }
  if (found.gelu != config.gelu) {
    const auto name = [](GeluForm form) { return form == GeluForm::kTanh ? "tanh" : "erf"; };
    notes.push_back(concat("the weights were trained with gelu ", name(found.gelu),
                           ", the settings say ", name(config.gelu)));
  }
  const std::vector<std::int64_t>& qkv = matrix_shape(file.tensors, "h.0.attn.c_attn.weight");
  return {.tensors = {file.tensors.path(), std::move(owners), std::move(tensors)},
          .hf_orientation = qkv[0] == config.n_embd,
          .notes = std::move(notes)};
}

}  // namespace gpt2train
