#include "gpt2train/data/llmc_model.h"
#include "src/train/export_source.h"

namespace gpt2train {
namespace {

constexpr const char* kModelName = "model.bin";

}  // namespace

std::vector<std::string> llmc_files() {
  return {kModelName};
}

void export_llmc(const ExportSource& source, const std::string& directory) {
  const ModelConfig& config = source.config().model;
  const LlmcModel model{.dtype = source.stored_dtype(),
                        .block_size = config.block_size,
                        .vocab_size = config.vocab_size,
                        .n_layer = config.n_layer,
                        .n_head = config.n_head,
                        .n_embd = config.n_embd,
                        .padded_vocab = config.padded_vocab()};
  OutputFile file(concat(directory, '/', kModelName));
  file.write(llmc_header(model));
  for (const LlmcTensor& tensor : llmc_tensors(model)) {
    file.write(source.weight(source.layout_with_bias().at(tensor.name), false));
    const auto padding = static_cast<std::size_t>(tensor.padding_rows * model.n_embd);
    file.write(std::vector<std::byte>(padding * size_of(source.dtype())));
  }
  file.finish();
}

}  // namespace gpt2train
