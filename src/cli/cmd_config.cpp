// `gpt2train config`: the settings of a run as they are resolved, in YAML that loads back.
#include <fmt/format.h>

#include "src/cli/commands.h"
#include "src/cli/options.h"

namespace gpt2train {

Command add_config(CLI::App& app) {
  const auto options = std::make_shared<ConfigOptions>();
  add_config_options(app, *options);
  return [options] {
    const RunConfig config = load_config(options->file, options->overrides);
    for (const std::string& what : ignored_settings(options->file)) {
      fmt::print("# ignored: {}\n", what);
    }
    fmt::print("{}", dump_config(config));
  };
}

}  // namespace gpt2train
