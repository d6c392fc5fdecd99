// `gpt2train export`: a checkpoint for another program.
#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "gpt2train/config/load.h"
#include "gpt2train/train/checkpoint.h"
#include "gpt2train/train/export.h"
#include "src/cli/commands.h"
#include "src/cli/model_options.h"
#include "src/cli/options.h"
#include "src/run/trained_model.h"

namespace gpt2train {
namespace {

struct CommandOptions {
  std::string format;
  std::string out;
  std::string out_dir = "out";
  std::string checkpoint;  // empty: the newest of out_dir
  std::string dtype = "float32";
  bool force = false;
};

const std::map<std::string, ExportFormat> kFormats = {{"hf", ExportFormat::kHuggingFace},
                                                      {"llmc", ExportFormat::kLlmc},
                                                      {"nanogpt", ExportFormat::kNanoGpt}};
const std::map<std::string, DType> kDTypes = {
    {"float32", DType::kFloat32}, {"bfloat16", DType::kBFloat16}, {"float16", DType::kFloat16}};

void run(const CommandOptions& options) {
  const std::string checkpoint =
      whole_checkpoint(options.out_dir, options.checkpoint, note_on_stderr);
  const RunConfig config =
      parse_config(read_checkpoint_config(checkpoint), checkpoint + "/config.yaml", {});
  const std::vector<std::string> files = export_checkpoint(checkpoint, config,
                                                           {.format = kFormats.at(options.format),
                                                            .dtype = kDTypes.at(options.dtype),
                                                            .force = options.force},
                                                           options.out);
  fmt::print("from {}\n", checkpoint);
  for (const std::string& file : files) {
    fmt::print("{}, {} bytes\n", file, std::filesystem::file_size(file));
  }
}

}  // namespace

Command add_export(CLI::App& app) {
  const auto options = std::make_shared<CommandOptions>();
  app.add_option("--format", options->format,
                 "hf: for transformers; llmc: llm.c's model file; nanogpt: its ckpt.pt")
      ->required()
      ->check(CLI::IsMember({"hf", "llmc", "nanogpt"}));
  app.add_option("--out", options->out, "directory to write to; nothing there is overwritten")
      ->required();
  app.add_option("--out_dir", options->out_dir, "run whose newest whole checkpoint to use")
      ->capture_default_str();
  app.add_option("--checkpoint", options->checkpoint,
                 "a checkpoint directory, instead of --out_dir");
  app.add_option("--dtype", options->dtype, "of the weights that are written")
      ->capture_default_str()
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  app.add_flag("--force", options->force,
               "write it also where the reader computes another form of GELU");
  add_quiet(app);
  return [options] { run(*options); };
}

}  // namespace gpt2train
