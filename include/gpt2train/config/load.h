// YAML file and command-line overrides to a RunConfig, with errors that point at the place.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "gpt2train/train/run_config.h"

namespace gpt2train {

struct Override {
  std::string flag;   // as typed, for messages: "--batch_size"
  std::string key;    // leaf name or path: "batch_size", "memory.limit"
  std::string value;  // text of a YAML scalar
};

// Defaults, then the file (an empty path: none), then the overrides in order, then the checks that
// span settings. A file whose name ends in .py is a config of nanoGPT, of which simple assignments
// are read. Throws ConfigError, where = "file:line:column" or the flag.
RunConfig load_config(const std::string& path, const std::vector<Override>& overrides);

// What load_config passes over in a nanoGPT config: "file:line: wandb_log". Empty for YAML.
std::vector<std::string> ignored_settings(const std::string& path);

// As load_config, from text: what a checkpoint stored. `name` stands for the file in messages.
RunConfig parse_config(const std::string& yaml, const std::string& name,
                       const std::vector<Override>& overrides);

// The resolved config as YAML that loads back to the same RunConfig.
std::string dump_config(const RunConfig& config);

struct FieldInfo {
  std::string section;       // "" for the top level
  std::string name;          // leaf name
  std::string type;          // "integer in [1, 256]", "one of auto|cpu|cuda", ...
  std::string default_text;  // as YAML
  std::string help;          // one line
  std::string path() const { return section.empty() ? name : section + "." + name; }
};

// Every setting of a config by its path, "model.n_layer", with its value as in YAML.
std::vector<std::pair<std::string, std::string>> settings_of(const RunConfig& config);

// Every setting, in the file's order: the one list behind --help, the README's table and parsing.
std::vector<FieldInfo> list_fields();

// The same list as the README's table.
std::string fields_markdown();

}  // namespace gpt2train
