#include "src/cli/model_options.h"

#include <fmt/format.h>

namespace gpt2train {

void note_on_stderr(const std::string& text) {
  fmt::print(stderr, "{}\n", text);
}

void add_model_options(CLI::App& app, ModelSource& source) {
  app.add_option("--out_dir", source.out_dir, "run whose newest whole checkpoint to use")
      ->capture_default_str();
  app.add_option("--checkpoint", source.checkpoint, "a checkpoint directory, instead of --out_dir");
  CLI::Option* const weights = app.add_option("--init_from", source.init_from,
                                              "weights from elsewhere, instead of a checkpoint");
  app.add_option("-c,--config", source.config, "settings that describe the model of --init_from")
      ->type_name("FILE")
      ->needs(weights);
  app.add_option("--device", source.device, "auto, cpu or cuda, instead of the settings' device");
  app.add_option("--dtype", source.dtype, "float32, bfloat16 or float16, instead of the settings'");
  app.add_option("--memory.limit,--limit", source.limit,
                 "memory budget: bytes, a fraction, or auto")
      ->capture_default_str();
}

}  // namespace gpt2train
