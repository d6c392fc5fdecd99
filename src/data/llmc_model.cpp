#include "gpt2train/data/llmc_model.h"

#include <array>
#include <cstring>
#include <utility>

#include "src/data/byte_reader.h"

namespace gpt2train {
namespace {

constexpr std::int32_t kModelMagic = 20240326;
constexpr std::int32_t kFloat32Version = 3, kBFloat16Version = 5;
constexpr std::size_t kHeaderNumbers = 256;

// Far above every GPT-2, and low enough that no product of them overflows.
constexpr std::int32_t kMostLayers = 1024, kMostHeads = 1024, kMostWidth = 1 << 16;
constexpr std::int32_t kMostTokens = 1 << 24;

std::int32_t size_in(ByteReader& reader, const char* name, std::int32_t least, std::int32_t most) {
  const std::uint64_t offset = reader.offset();
  const auto value = reader.number<std::int32_t>(name);
  if (value < least || value > most) {
    throw DataError(reader.path(), offset,
                    concat(name, " is ", value, ", expected ", least, " to ", most));
  }
  return value;
}

LlmcModel read_sizes(const std::string& path, std::span<const std::byte> bytes) {
  ByteReader reader(path, bytes, sizeof kModelMagic);
  const auto version = reader.number<std::int32_t>("the version");
  if (version != kFloat32Version && version != kBFloat16Version) {
    throw DataError(path, sizeof kModelMagic,
                    concat("version ", version, " of llm.c's model files, expected 3 or 5"));
  }
  LlmcModel model;
  model.dtype = version == kFloat32Version ? "F32" : "BF16";
  model.block_size = size_in(reader, "max_seq_len", 1, kMostTokens);
  model.vocab_size = size_in(reader, "vocab_size", 1, kMostTokens);
  model.n_layer = size_in(reader, "num_layers", 1, kMostLayers);
  model.n_head = size_in(reader, "num_heads", 1, kMostHeads);
  model.n_embd = size_in(reader, "channels", 1, kMostWidth);
  const auto vocab = static_cast<std::int32_t>(model.vocab_size);
  model.padded_vocab = size_in(reader, "padded_vocab_size", vocab, kMostTokens);
  if (model.n_embd % model.n_head != 0) {
    reader.fail(model.n_head, " heads for a width of ", model.n_embd);
  }
  return model;
}

// Elements of all parameters; with the largest sizes allowed below 2^56.
std::uint64_t element_count(const LlmcModel& model) {
  const std::int64_t C = model.n_embd;
  const std::int64_t layer = 12 * C * C + 13 * C;
  const std::int64_t rows = model.padded_vocab + model.block_size + 2;
  return static_cast<std::uint64_t>(rows * C + model.n_layer * layer);
}

}  // namespace

std::vector<LlmcTensor> llmc_tensors(const LlmcModel& model) {
  const std::int64_t C = model.n_embd;
  std::vector<LlmcTensor> tensors = {
      {"wte.weight", {model.vocab_size, C}, model.padded_vocab - model.vocab_size},
      {"wpe.weight", {model.block_size, C}}};
  const auto layers = [&](const char* name, std::int64_t out, std::int64_t in) {
    for (const char* kind : {".weight", ".bias"}) {
      for (std::int64_t l = 0; l < model.n_layer; ++l) {
        LlmcTensor& tensor = tensors.emplace_back();
        tensor.name = concat("h.", l, '.', name, kind);
        tensor.shape = {out};
        if (in != 0 && kind == std::string_view(".weight")) tensor.shape.push_back(in);
      }
    }
  };
  layers("ln_1", C, 0);
  layers("attn.c_attn", 3 * C, C);
  layers("attn.c_proj", C, C);
  layers("ln_2", C, 0);
  layers("mlp.c_fc", 4 * C, C);
  layers("mlp.c_proj", C, 4 * C);
  tensors.push_back({"ln_f.weight", {C}});
  tensors.push_back({"ln_f.bias", {C}});
  return tensors;
}

std::string llmc_header(const LlmcModel& model) {
  std::array<std::int32_t, kHeaderNumbers> header{};
  header[0] = kModelMagic;
  header[1] = model.dtype == "F32" ? kFloat32Version : kBFloat16Version;
  std::size_t at = 2;
  for (const std::int64_t size : {model.block_size, model.vocab_size, model.n_layer, model.n_head,
                                  model.n_embd, model.padded_vocab}) {
    header[at++] = static_cast<std::int32_t>(size);
  }
  return {reinterpret_cast<const char*>(header.data()), sizeof header};
}

bool is_llmc_model(std::span<const std::byte> bytes) {
  return bytes.size() >= sizeof kModelMagic &&
         std::memcmp(bytes.data(), &kModelMagic, sizeof kModelMagic) == 0;
}

WeightsFile parse_llmc_model(const std::string& path, std::span<const std::byte> bytes,
                             std::vector<std::shared_ptr<const void>> owners) {
  const LlmcModel model = read_sizes(path, bytes);
  ByteReader reader(path, bytes, kHeaderNumbers * sizeof(std::int32_t));
  // Before anything is listed: a header of 32 bytes may claim a thousand layers.
  const std::uint64_t expected = element_count(model) * element_bytes(model.dtype);
  if (reader.left() != expected) {
    reader.fail("a model of these sizes takes ", expected, " bytes, and ", reader.left(),
                " are there");
  }
  std::map<std::string, StoredTensor> tensors;
  for (const LlmcTensor& tensor : llmc_tensors(model)) {
    const std::uint64_t size = stored_bytes(tensor.shape, model.dtype).value();
    tensors[tensor.name] = {model.dtype, tensor.shape, reader.take(size, tensor.name.c_str())};
    reader.take(stored_bytes({tensor.padding_rows, model.n_embd}, model.dtype).value(),
                "the padding of the vocabulary");
  }
  return {.tensors = {path, std::move(owners), std::move(tensors)},
          .n_head = model.n_head,
          .activation = "gelu_new"};
}

}  // namespace gpt2train
