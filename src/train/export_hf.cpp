// As transformers' GPT2LMHeadModel.save_pretrained writes it: Conv1D's weights are (in, out), all
// have biases, and the head is the token table and not stored again.
#include <nlohmann/json.hpp>

#include "src/train/export_source.h"
#include "src/train/stored_moments.h"

namespace gpt2train {
namespace {

constexpr const char* kWeightsName = "model.safetensors";
constexpr const char* kConfigName = "config.json";
constexpr const char* kGenerationName = "generation_config.json";
constexpr std::int64_t kEndOfText = 50256;

bool is_turned(const Parameter& parameter) {
  return parameter.transposed_in_hf && parameter.shape.rank() == 2;
}

// Where the vocabulary has it, the end of a text begins and ends one.
nlohmann::ordered_json end_of_text(const ModelConfig& model) {
  if (model.vocab_size <= kEndOfText) return nullptr;
  return kEndOfText;
}

std::string config_text(const ExportSource& source) {
  const ModelConfig& model = source.config().model;
  const char* dtype = source.dtype() == DType::kFloat32    ? "float32"
                      : source.dtype() == DType::kBFloat16 ? "bfloat16"
                                                           : "float16";
  const nlohmann::ordered_json json = {
      {"architectures", {"GPT2LMHeadModel"}},
      {"model_type", "gpt2"},
      {"activation_function", model.gelu == GeluForm::kTanh ? "gelu_new" : "gelu"},
      {"vocab_size", model.vocab_size},
      {"n_positions", model.block_size},
      {"n_ctx", model.block_size},
      {"n_embd", model.n_embd},
      {"n_layer", model.n_layer},
      {"n_head", model.n_head},
      {"n_inner", nullptr},
      {"embd_pdrop", model.dropout},
      {"attn_pdrop", model.dropout},
      {"resid_pdrop", model.dropout},
      {"layer_norm_epsilon", 1e-5},
      {"initializer_range", 0.02},
      {"scale_attn_weights", true},
      {"tie_word_embeddings", true},
      {"use_cache", true},
      {"bos_token_id", end_of_text(model)},
      {"eos_token_id", end_of_text(model)},
      {"torch_dtype", dtype}};
  return json.dump(2) + '\n';
}

std::string generation_text(const ModelConfig& model) {
  const nlohmann::ordered_json json = {{"_from_model_config", true},
                                       {"bos_token_id", end_of_text(model)},
                                       {"eos_token_id", end_of_text(model)}};
  return json.dump(2) + '\n';
}

// Of a header only sizes are asked for; the bytes follow one tensor at a time.
TensorToStore entry(const Parameter& parameter, const ExportSource& source) {
  std::vector<std::int64_t> shape = dims(parameter.shape);
  if (is_turned(parameter)) std::swap(shape[0], shape[1]);
  const std::size_t bytes = static_cast<std::size_t>(parameter.count()) * size_of(source.dtype());
  return {.name = "transformer." + parameter.name,
          .dtype = source.stored_dtype(),
          .shape = std::move(shape),
          .bytes = {static_cast<const std::byte*>(nullptr), bytes}};
}

void write_text(const std::string& path, const std::string& text) {
  OutputFile file(path);
  file.write(text);
  file.finish();
}

}  // namespace

std::vector<std::string> hf_files() {
  return {kWeightsName, kConfigName, kGenerationName};
}

void export_hf(const ExportSource& source, const std::string& directory) {
  const std::vector<Parameter>& parameters = source.layout_with_bias().list();
  std::vector<TensorToStore> entries;
  for (const Parameter& parameter : parameters) entries.push_back(entry(parameter, source));
  OutputFile weights(concat(directory, '/', kWeightsName));
  weights.write(safetensors_header(entries, {{"format", "pt"}}));
  for (const Parameter& parameter : parameters) {
    weights.write(source.weight(parameter, is_turned(parameter)));
  }
  weights.finish();
  write_text(concat(directory, '/', kConfigName), config_text(source));
  write_text(concat(directory, '/', kGenerationName), generation_text(source.config().model));
}

}  // namespace gpt2train
