#include "gpt2train/train/export.h"

#include <filesystem>

#include "gpt2train/core/error.h"
#include "src/train/export_source.h"

namespace gpt2train {
namespace {

struct Writer {
  const char* reader;                   // who reads what it writes
  std::optional<GeluForm> gelu;         // the only form that the reader has
  std::vector<std::string> (*files)();  // that it writes
  void (*write)(const ExportSource& source, const std::string& directory);
};

Writer writer_of(ExportFormat format) {
  switch (format) {
    case ExportFormat::kHuggingFace:
      return {"transformers", std::nullopt, hf_files, export_hf};
    case ExportFormat::kLlmc:
      return {"llm.c", GeluForm::kTanh, llmc_files, export_llmc};
    case ExportFormat::kNanoGpt:
      return {"nanoGPT", GeluForm::kErf, nanogpt_files, export_nanogpt};
  }
  throw InternalError("no such format");
}

const char* name_of_form(GeluForm form) {
  return form == GeluForm::kTanh ? "tanh" : "erf";
}

}  // namespace

std::vector<std::string> export_checkpoint(const std::string& checkpoint, const RunConfig& config,
                                           const ExportOptions& options,
                                           const std::string& directory) {
  const Writer writer = writer_of(options.format);
  if (options.format == ExportFormat::kLlmc && options.dtype == DType::kFloat16) {
    throw ConfigError("--dtype", "llm.c reads float32 and bfloat16");
  }
  if (writer.gelu && *writer.gelu != config.model.gelu && !options.force) {
    throw ConfigError("--format",
                      concat(writer.reader, " computes GELU by ", name_of_form(*writer.gelu),
                             ", this model was trained with ", name_of_form(config.model.gelu),
                             ": a slightly different function; --force writes it all the same"));
  }
  const ExportSource source(checkpoint, config, options.dtype);
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw CheckpointError(directory, "cannot be made: " + error.message());
  std::vector<std::string> paths;
  for (const std::string& name : writer.files()) {
    paths.push_back(concat(directory, '/', name));
    if (std::filesystem::exists(paths.back(), error)) {
      throw ConfigError("--out", concat(paths.back(), " is there already"));
    }
  }
  writer.write(source, directory);
  return paths;
}

}  // namespace gpt2train
