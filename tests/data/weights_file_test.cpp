#include "gpt2train/data/weights_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "gpt2train/core/error.h"
#include "gpt2train/data/llmc_model.h"
#include "gpt2train/data/safetensors.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::TempDir;
using test::write_file;

// ---- llm.c's model files --------------------------------------------------------------------

constexpr std::int64_t kWidth = 4;

LlmcModel tiny_llmc() {
  return {.dtype = "F32",
          .block_size = 3,
          .vocab_size = 5,
          .n_layer = 2,
          .n_head = 2,
          .n_embd = kWidth,
          .padded_vocab = 8};
}

// Elements are numbered through the file, in the padding as well.
std::string llmc_bytes(const LlmcModel& model) {
  std::string bytes = llmc_header(model);
  float next = 0;
  for (const LlmcTensor& tensor : llmc_tensors(model)) {
    std::int64_t count = 1;
    for (const std::int64_t d : tensor.shape) count *= d;
    count += tensor.padding_rows * kWidth;
    for (std::int64_t i = 0; i < count; ++i, ++next) {
      bytes.append(reinterpret_cast<const char*>(&next), sizeof next);
    }
  }
  return bytes;
}

WeightsFile parse(const std::string& bytes) {
  return parse_weights("model.bin", std::as_bytes(std::span(bytes)));
}

void expect_error(const std::string& bytes, const std::string& part) {
  try {
    parse(bytes);
    ADD_FAILURE() << "accepted, though " << part;
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

std::string with_number(std::string bytes, std::size_t index, std::int32_t value) {
  std::memcpy(bytes.data() + 4 * index, &value, sizeof value);
  return bytes;
}

TEST(LlmcModel, ReadsKindsOfAllLayersInTurn) {
  const std::string bytes = llmc_bytes(tiny_llmc());
  const WeightsFile file = parse(bytes);
  EXPECT_EQ(file.n_head, 2);
  EXPECT_EQ(file.activation, "gelu_new");
  EXPECT_EQ(file.tensors.at("wte.weight").shape, (std::vector<std::int64_t>{5, 4}));
  EXPECT_EQ(file.tensors.floats("wte.weight").back(), 19);
  EXPECT_EQ(file.tensors.floats("wpe.weight").front(), 32);  // after the padding
  EXPECT_EQ(file.tensors.floats("h.0.ln_1.weight").front(), 44);
  EXPECT_EQ(file.tensors.floats("h.1.ln_1.weight").front(), 48);
  EXPECT_EQ(file.tensors.floats("h.0.ln_1.bias").front(), 52);
  EXPECT_EQ(file.tensors.floats("h.0.attn.c_attn.weight").front(), 60);
  EXPECT_EQ(file.tensors.at("h.1.mlp.c_proj.weight").shape, (std::vector<std::int64_t>{4, 16}));
  EXPECT_EQ(file.tensors.tensors().size(), 2u + 2 * 12 + 2);
}

TEST(LlmcModel, RejectsSizesThatAreNone) {
  const std::string good = llmc_bytes(tiny_llmc());
  expect_error(with_number(good, 1, 1), "byte 4: version 1 of llm.c's model files");
  expect_error(with_number(good, 2, 0), "byte 8: max_seq_len is 0");
  expect_error(with_number(good, 3, -5), "byte 12: vocab_size is -5");
  expect_error(with_number(good, 4, 1 << 30), "byte 16: num_layers is 1073741824");
  expect_error(with_number(good, 5, 3), "3 heads for a width of 4");
  expect_error(with_number(good, 6, 0x7FFFFFFF), "byte 24: channels is");
  expect_error(with_number(good, 7, 4), "padded_vocab_size is 4, expected 5");
  expect_error(with_number(good, 4, 1), "a model of these sizes takes");
  expect_error(with_number(good, 4, 3), "a model of these sizes takes");
  expect_error(good.substr(0, 20), "are left");
  expect_error(good.substr(0, good.size() - 1), "takes 2160 bytes, and 2159 are there");
  expect_error(good + "x", "takes 2160 bytes, and 2161 are there");
}

// ---- directories ----------------------------------------------------------------------------

std::string safetensors_of(const std::string& name, const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  const std::vector<TensorToStore> tensors = {
      {.name = name, .dtype = "F32", .shape = {std::ssize(values)}, .bytes = bytes}};
  return safetensors_header(tensors, {}) +
         std::string(reinterpret_cast<const char*>(values.data()), bytes.size());
}

class WeightsDirectory : public testing::Test {
 protected:
  void expect_error(const std::string& part) const {
    try {
      open_weights(dir_.path());
      ADD_FAILURE() << "accepted, though " << part;
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
  void write_index(const std::string& map) const {
    write_file(dir_ / "model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
  }

  TempDir dir_;
};

TEST_F(WeightsDirectory, TakesEachTensorFromTheShardOfTheIndex) {
  write_file(dir_ / "1.safetensors", safetensors_of("transformer.a", {1}));
  write_file(dir_ / "2.safetensors", safetensors_of("transformer.b", {2}));
  write_index(R"("transformer.a": "1.safetensors", "transformer.b": "2.safetensors")");
  const StoredTensors tensors = open_weights(dir_.path()).tensors;
  EXPECT_EQ(tensors.floats("a"), std::vector<float>{1});
  EXPECT_EQ(tensors.floats("b"), std::vector<float>{2});
}

TEST_F(WeightsDirectory, RejectsShardsThatAreNotThere) {
  write_file(dir_ / "1.safetensors", safetensors_of("a", {1}));
  write_index(R"("a": "2.safetensors")");
  expect_error("2.safetensors: cannot open");
  write_index(R"("b": "1.safetensors")");
  expect_error("no tensor \"b\"");
  for (const char* outside : {"\"../1.safetensors\"", "\"/etc/passwd\"", "\"..\"", "\"\"", "3"}) {
    write_index(std::string("\"a\": ") + outside);
    expect_error("is in no file of this directory");
  }
  write_file(dir_ / "model.safetensors.index.json", "[1");
  expect_error("is not JSON");
  write_file(dir_ / "model.safetensors.index.json", "[]");
  expect_error("has no weight_map");
}

TEST_F(WeightsDirectory, TellsFormatsByContentWhateverTheName) {
  write_file(dir_ / "ckpt.pt", llmc_bytes(tiny_llmc()));
  EXPECT_EQ(open_weights(dir_.path()).activation, "gelu_new");
  write_file(dir_ / "pytorch_model.bin", safetensors_of("transformer.wpe.weight", {3}));
  EXPECT_EQ(open_weights(dir_.path()).tensors.floats("wpe.weight"), std::vector<float>{3});
}

TEST_F(WeightsDirectory, SaysWhatIsNoFileOfWeights) {
  write_file(dir_ / "ckpt.pt", "once upon a time");
  expect_error("is no file of weights");
}

TEST_F(WeightsDirectory, KnowsHeadsAndActivationFromTheConfig) {
  write_file(dir_ / "model.safetensors", safetensors_of("a", {1}));
  EXPECT_FALSE(open_weights(dir_.path()).n_head);
  write_file(dir_ / "config.json", R"({"n_head": 25})");
  EXPECT_EQ(open_weights(dir_.path()).n_head, 25);
  EXPECT_EQ(open_weights(dir_.path()).activation, "gelu_new");  // transformers' default
  write_file(dir_ / "config.json", R"({"n_head": 1, "activation_function": "gelu"})");
  EXPECT_EQ(open_weights(dir_.path()).activation, "gelu");
}

TEST_F(WeightsDirectory, RejectsWhatIsNotGpt2) {
  expect_error("has no model.safetensors");
  write_file(dir_ / "model.safetensors", safetensors_of("a", {1}));
  write_file(dir_ / "config.json", R"({"model_type": "llama"})");
  expect_error("model_type is \"llama\"");
  write_file(dir_ / "config.json", R"({"scale_attn_by_inverse_layer_idx": true})");
  expect_error("scales attention");
  write_file(dir_ / "config.json", R"({"layer_norm_epsilon": 1e-6})");
  expect_error("layer_norm_epsilon is 1e-06");
  write_file(dir_ / "config.json", R"({"n_head": "many"})");
  expect_error("config.json");
  write_file(dir_ / "config.json", "3");
  expect_error("config.json");
}

}  // namespace
}  // namespace gpt2train
