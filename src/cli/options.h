// Command-line options: one for every setting, from the list that the YAML parser and the reference
// page share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "gpt2train/config/load.h"

namespace gpt2train {

struct ConfigOptions {
  std::string file;
  std::vector<Override> overrides;
};

// As load_config of both. Throws ConfigError.
RunConfig load_config(const ConfigOptions& options);

// Adds --quiet: errors alone.
void add_quiet(CLI::App& app);

// Adds --config and, for each setting, --name and --section.name.
void add_config_options(CLI::App& app, ConfigOptions& options);

}  // namespace gpt2train
