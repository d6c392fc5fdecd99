#include "gpt2train/train/export.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "gpt2train/core/error.h"
#include "gpt2train/train/load_weights.h"
#include "src/data/pickle_reader.h"
#include "src/data/zip.h"
#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

using test::TempDir;
using test::tiny_config;
using test::TinyRun;
using test::write_file;

RunConfig model_config(bool bias, GeluForm gelu) {
  RunConfig config = tiny_config();
  config.model.bias = bias;
  config.model.gelu = gelu;
  return config;
}

// A run of two steps, and what it leaves behind.
struct Trained {
  explicit Trained(const RunConfig& config) : run(config), trainer(run.setup()) {
    trainer.step();
    trainer.step();
    trainer.save();
    checkpoint = run.recorder.checkpoints.back().path;
  }

  std::vector<std::string> export_to(const std::string& directory, ExportFormat format,
                                     DType dtype = DType::kFloat32, bool force = false) {
    return export_checkpoint(checkpoint, run.config,
                             {.format = format, .dtype = dtype, .force = force}, directory);
  }

  TinyRun run;
  Trainer trainer;
  std::string checkpoint;
};

struct Exchange {
  ExportFormat format;
  bool bias;
  GeluForm gelu;
};
void PrintTo(const Exchange& e, std::ostream* out) {
  *out << int(e.format) << (e.bias ? " bias" : " no bias")
       << (e.gelu == GeluForm::kTanh ? " tanh" : " erf");
}
class RoundTrip : public testing::TestWithParam<Exchange> {};

TEST_P(RoundTrip, GivesTheSameBitsAndTheSameLoss) {
  Trained trained(model_config(GetParam().bias, GetParam().gelu));
  const TempDir out;
  trained.export_to(out.path(), GetParam().format);

  RunConfig config = trained.run.config;
  config.out_dir = out / "run";
  config.init_from = out.path();
  TinyRun again(config);
  Trainer loaded(again.setup());
  EXPECT_EQ(test::weights_of(loaded.state()), test::weights_of(trained.trainer.state()));
  EXPECT_EQ(loaded.evaluate()->val_loss, trained.trainer.evaluate()->val_loss);
  EXPECT_TRUE(again.recorder.notes.empty()) << again.recorder.notes.front();
}

INSTANTIATE_TEST_SUITE_P(
    , RoundTrip,
    testing::Values(Exchange{ExportFormat::kHuggingFace, true, GeluForm::kTanh},
                    Exchange{ExportFormat::kHuggingFace, false, GeluForm::kErf},
                    Exchange{ExportFormat::kLlmc, true, GeluForm::kTanh},
                    Exchange{ExportFormat::kLlmc, false, GeluForm::kTanh},
                    Exchange{ExportFormat::kNanoGpt, true, GeluForm::kErf},
                    Exchange{ExportFormat::kNanoGpt, false, GeluForm::kErf}));

// Reading turns back what writing turned, or did not turn; only another program would notice.
TEST(Export, TurnsLinearLayersForTransformers) {
  Trained trained(tiny_config());
  const TempDir out;
  trained.export_to(out.path(), ExportFormat::kHuggingFace);
  const SafetensorsFile theirs(out / "model.safetensors");
  const SafetensorsFile ours(trained.checkpoint + "/model.safetensors");
  EXPECT_EQ(theirs.metadata().at("format"), "pt");
  EXPECT_EQ(theirs.at("transformer.h.0.mlp.c_fc.weight").shape,
            (std::vector<std::int64_t>{16, 64}));
  EXPECT_EQ(theirs.floats("transformer.wte.weight"), ours.floats("wte.weight"));
  const std::vector<float> turned = theirs.floats("transformer.h.1.attn.c_proj.weight");
  const std::vector<float> straight = ours.floats("h.1.attn.c_proj.weight");
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 16; ++j) ASSERT_EQ(turned[i * 16 + j], straight[j * 16 + i]);
  }
}

// llm.c and nanoGPT have them (out, in).
TEST(Export, LeavesLinearLayersForTheOthers) {
  Trained trained(model_config(false, GeluForm::kTanh));
  const TempDir out;
  const SafetensorsFile ours(trained.checkpoint + "/model.safetensors");
  for (const ExportFormat format : {ExportFormat::kLlmc, ExportFormat::kNanoGpt}) {
    trained.export_to(out.path(), format, DType::kFloat32, true);
    const StoredTensors theirs = open_weights(out.path()).tensors;
    EXPECT_EQ(theirs.floats("h.1.attn.c_proj.weight"), ours.floats("h.1.attn.c_proj.weight"));
    EXPECT_EQ(theirs.tensors().contains("h.1.ln_1.bias"), format == ExportFormat::kLlmc);
    std::filesystem::remove(out / "model.bin");
  }
}

TEST(Export, RoundsToTheDtypeThatIsAskedFor) {
  Trained trained(tiny_config());
  const TempDir out;
  for (const DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    const std::string directory = out / name_of(dtype);
    trained.export_to(directory, ExportFormat::kHuggingFace, dtype);
    const WeightsFile file = open_weights(directory);
    const StoredTensor& wpe = file.tensors.at("wpe.weight");
    EXPECT_EQ(wpe.dtype, dtype == DType::kBFloat16 ? "BF16" : "F16");
    const std::vector<float> whole =
        SafetensorsFile(trained.checkpoint + "/model.safetensors").floats("wpe.weight");
    std::vector<float> rounded = file.tensors.floats("wpe.weight");
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const float expected = dtype == DType::kBFloat16 ? to_float(from_float<bf16>(whole[i]))
                                                       : to_float(from_float<fp16>(whole[i]));
      ASSERT_EQ(rounded[i], expected);
    }
  }
}

// The moments of a parameter, from nanoGPT's optimizer: numbers of those that decay come first.
std::vector<float> exported_moment(const std::string& path, const ParameterLayout& layout,
                                   const std::string& name, const char* which) {
  std::vector<std::string> numbered;
  for (const bool decay : {true, false}) {
    for (const Parameter& parameter : layout.list()) {
      if (parameter.decay == decay) numbered.push_back(parameter.name);
    }
  }
  const auto number = std::find(numbered.begin(), numbered.end(), name) - numbered.begin();
  const std::string bytes = test::read_file(path);
  const auto entries = read_zip(path, std::as_bytes(std::span(bytes)));
  const Pickle pickle(path, entries.at("ckpt/data.pkl").bytes, 0);
  const auto state = pickle.find(pickle.find(pickle.root(), "optimizer").value(), "state").value();
  for (const auto& [key, value] : *pickle.dict(state)) {
    if (pickle.integer(key) != number) continue;
    const PickledTensor* tensor = pickle.tensor(pickle.find(value, which).value());
    const auto stored = entries.at(concat("ckpt/data/", tensor->storage)).bytes;
    std::vector<float> values(stored.size() / sizeof(float));
    std::memcpy(values.data(), stored.data(), stored.size());
    return values;
  }
  return {};
}

TEST(Export, GivesNanoGptTheMomentsOfEachParameter) {
  for (const Moments moments : {Moments::kFloat32, Moments::kInt8}) {
    RunConfig config = tiny_config();
    config.memory.moments = moments;
    Trained trained(config);
    const TempDir out;
    const std::string path = trained.export_to(out.path(), ExportFormat::kNanoGpt).front();

    config.out_dir = trained.run.config.out_dir;
    config.init_from = "resume";
    config.memory.moments = Moments::kFloat32;  // codes become numbers
    TinyRun again(config);
    Trainer resumed(again.setup());
    const ParameterLayout& layout = resumed.state().layout();
    for (const char* name : {"wte.weight", "h.1.mlp.c_fc.weight", "h.0.ln_1.bias", "ln_f.weight"}) {
      const Parameter& parameter = layout.at(name);
      const auto count = static_cast<std::size_t>(parameter.count());
      for (const auto& [flat, which] : {std::pair(resumed.state().flat_m(), "exp_avg"),
                                        {resumed.state().flat_v(), "exp_avg_sq"}}) {
        const float* expected = flat.as<float>() + parameter.offset;
        EXPECT_EQ(exported_moment(path, layout, name, which),
                  std::vector<float>(expected, expected + count))
            << name << ' ' << which;
      }
    }
  }
}

TEST(Export, RefusesToChangeTheFunction) {
  Trained erf(model_config(true, GeluForm::kErf));
  const TempDir out;
  EXPECT_THROW(erf.export_to(out / "a", ExportFormat::kLlmc), ConfigError);
  EXPECT_FALSE(std::filesystem::exists(out / "a"));
  EXPECT_NO_THROW(erf.export_to(out / "a", ExportFormat::kLlmc, DType::kFloat32, true));
  EXPECT_NO_THROW(erf.export_to(out / "b", ExportFormat::kHuggingFace));
  const auto config = nlohmann::json::parse(test::read_file(out / "b/config.json"));
  EXPECT_EQ(config.at("activation_function"), "gelu");
  EXPECT_TRUE(config.at("eos_token_id").is_null());  // not in a vocabulary of 37
  Trained tanh(model_config(true, GeluForm::kTanh));
  EXPECT_THROW(tanh.export_to(out / "c", ExportFormat::kNanoGpt), ConfigError);
  EXPECT_THROW(tanh.export_to(out / "c", ExportFormat::kLlmc, DType::kFloat16), ConfigError);
}

TEST(Export, OverwritesNothing) {
  Trained trained(tiny_config());
  const TempDir out;
  const std::string path = trained.export_to(out.path(), ExportFormat::kNanoGpt).front();
  const std::string before = test::read_file(path);
  trained.trainer.step();
  EXPECT_THROW(trained.export_to(out.path(), ExportFormat::kNanoGpt), ConfigError);
  EXPECT_EQ(test::read_file(path), before);
  write_file(out / "file", "x");
  EXPECT_THROW(trained.export_to(out / "file/below", ExportFormat::kNanoGpt), CheckpointError);
}

// ---- init_from ------------------------------------------------------------------------------

class FitWeights : public testing::Test {
 protected:
  FitWeights() : trained_(tiny_config()) {
    trained_.export_to(out_.path(), ExportFormat::kHuggingFace);
    config_ = trained_.run.config.model;
  }
  WeightsFile file() const { return open_weights(out_.path()); }

  std::string error_for(const WeightsFile& file, const ModelConfig& config) const {
    try {
      fit_weights(file, config);
    } catch (const DataError& error) {
      return error.what();
    }
    return "accepted";
  }

  // The file with one tensor replaced by floats, or added.
  WeightsFile with(const std::string& name, std::vector<std::int64_t> shape, float value) const {
    WeightsFile changed = file();
    std::int64_t count = 1;
    for (const std::int64_t d : shape) count *= d;
    const auto values = std::make_shared<std::vector<float>>(count, value);
    auto tensors = changed.tensors.tensors();
    auto owners = changed.tensors.owners();
    owners.push_back(values);
    tensors[name] = {"F32", std::move(shape), std::as_bytes(std::span(*values))};
    changed.tensors = {changed.tensors.path(), owners, tensors};
    return changed;
  }

  Trained trained_;
  TempDir out_;
  ModelConfig config_;
};

TEST_F(FitWeights, NamesEveryDifferenceAndTheSettingsThatFit) {
  ModelConfig config = config_;
  config.n_layer = 1;
  config.n_head = 4;
  config.vocab_size = 64;
  config.block_size = 9;
  config.bias = false;
  const std::string error = error_for(file(), config);
  EXPECT_NE(error.find("n_layer is 2 in the file and 1 in the settings"), std::string::npos);
  EXPECT_NE(error.find("--n_layer=2 --n_head=2 --vocab_size=37 --block_size=8 --bias=true"),
            std::string::npos)
      << error;
  EXPECT_EQ(error_for(file(), config_), "accepted");
}

TEST_F(FitWeights, TakesTheFirstPositionsOfALongerTable) {
  ModelConfig config = config_;
  config.block_size = 3;
  const FittedWeights fitted = fit_weights(file(), config);
  const std::vector<float> whole = file().tensors.floats("wpe.weight");
  EXPECT_EQ(fitted.tensors.floats("wpe.weight"),
            std::vector<float>(whole.begin(), whole.begin() + 3 * config.n_embd));
  EXPECT_EQ(fitted.tensors.at("wpe.weight").shape, (std::vector<std::int64_t>{3, 16}));
  ASSERT_EQ(fitted.notes.size(), 1u);
  EXPECT_NE(fitted.notes[0].find("of 8 positions the first 3"), std::string::npos);
}

TEST_F(FitWeights, RefusesFilesThatAreNoModel) {
  for (const std::int64_t heads : {-1, 0, 3}) {
    WeightsFile wrong = file();
    wrong.n_head = heads;
    EXPECT_THROW(static_cast<void>(model_of(wrong, config_)), DataError) << heads << " heads of 16";
  }
  const WeightsFile no_tokens = with("wte.weight", {0, 16}, 0.0f);
  EXPECT_THROW(static_cast<void>(model_of(no_tokens, config_)), DataError);
  WeightsFile no_blocks = file();
  auto tensors = no_blocks.tensors.tensors();
  std::erase_if(tensors, [](const auto& entry) { return entry.first.starts_with("h."); });
  no_blocks.tensors = {no_blocks.tensors.path(), no_blocks.tensors.owners(), tensors};
  EXPECT_THROW(static_cast<void>(model_of(no_blocks, config_)), DataError);
}

TEST_F(FitWeights, LeavesOutNoBiasThatCounts) {
  ModelConfig config = config_;
  config.bias = false;
  EXPECT_NE(error_for(file(), config).find("--bias=true"), std::string::npos);
}

TEST_F(FitWeights, BeginsWithZerosWhereTheFileHasNoBiases) {
  WeightsFile bare = file();
  auto tensors = bare.tensors.tensors();
  std::erase_if(tensors, [](const auto& entry) { return entry.first.ends_with(".bias"); });
  bare.tensors = {bare.tensors.path(), bare.tensors.owners(), tensors};
  const FittedWeights fitted = fit_weights(bare, config_);
  EXPECT_EQ(fitted.tensors.floats("h.1.mlp.c_fc.bias"), std::vector<float>(64));
  EXPECT_EQ(fitted.notes.size(), 1u);
  // Some of them are not all of them: that is a file with a tensor missing.
  tensors["ln_f.bias"] = file().tensors.at("ln_f.bias");
  bare.tensors = {bare.tensors.path(), file().tensors.owners(), tensors};
  EXPECT_FALSE(fit_weights(bare, config_).tensors.tensors().contains("h.1.mlp.c_fc.bias"));
}

TEST_F(FitWeights, RefusesAHeadOfItsOwn) {
  EXPECT_NE(
      error_for(with("lm_head.weight", {37, 16}, 0.5f), config_).find("lm_head.weight is not"),
      std::string::npos);
  WeightsFile tied = with("lm_head.weight", {37, 16}, 0.5f);
  auto tensors = tied.tensors.tensors();
  tensors["lm_head.weight"] = tensors["wte.weight"];
  tied.tensors = {tied.tensors.path(), tied.tensors.owners(), tensors};
  EXPECT_EQ(error_for(tied, config_), "accepted");
}

TEST_F(FitWeights, TellsOfAnotherGelu) {
  ModelConfig config = config_;
  config.gelu = GeluForm::kTanh;
  const std::vector<std::string> notes = fit_weights(file(), config).notes;
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0], "the weights were trained with gelu erf, the settings say tanh");
  WeightsFile relu = file();
  relu.activation = "relu";
  EXPECT_NE(error_for(relu, config).find("activation function is relu"), std::string::npos);
}

TEST_F(FitWeights, RefusesTensorsOfOddShapes) {
  EXPECT_NE(error_for(with("wte.weight", {37}, 0), config_).find("expected two dimensions"),
            std::string::npos);
  EXPECT_NE(error_for(with("wpe.weight", {8, 17}, 0), config_).find("tables of one width"),
            std::string::npos);
  EXPECT_NE(error_for(with("wpe.weight", {0, 16}, 0), config_).find("wpe.weight (0, 16)"),
            std::string::npos);
}

TEST(FindWeights, KnowsGpt2ByItsNameInHuggingFacesCache) {
  const TempDir cache;
  const char* before = std::getenv("HF_HUB_CACHE");
  const std::string saved = before == nullptr ? "" : before;
  setenv("HF_HUB_CACHE", cache.path().c_str(), 1);
  EXPECT_EQ(find_weights("some/directory"), "some/directory");
  try {
    find_weights("gpt2-medium");
    ADD_FAILURE() << "found";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("hf download openai-community/gpt2-medium"),
              std::string::npos);
  }
  const std::string repository = cache / "models--openai-community--gpt2-medium";
  for (const char* commit : {"aaa", "bbb", "ccc"}) {
    const std::string snapshot = repository + "/snapshots/" + commit;
    std::filesystem::create_directories(snapshot);
    if (commit != std::string("aaa")) write_file(snapshot + "/model.safetensors", "x");
  }
  EXPECT_EQ(find_weights("gpt2-medium"), repository + "/snapshots/bbb");
  std::filesystem::create_directories(repository + "/refs");
  write_file(repository + "/refs/main", "ccc");
  EXPECT_EQ(find_weights("gpt2-medium"), repository + "/snapshots/ccc");
  if (before == nullptr) {
    unsetenv("HF_HUB_CACHE");
  } else {
    setenv("HF_HUB_CACHE", saved.c_str(), 1);
  }
}

}  // namespace
}  // namespace gpt2train
