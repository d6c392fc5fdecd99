// nanoGPT's config files: Python, of which assignments of simple values are read and nothing is
// run.
#pragma once

#include <string>
#include <vector>

#include "gpt2train/config/load.h"

namespace gpt2train {

struct PythonSettings {
  std::vector<Override> settings;    // in order; `flag` is "file:line:column: name"
  std::vector<std::string> ignored;  // "file:line: wandb_log, which has no meaning here"
};

// `name = value`, where a value is made of numbers, strings, booleans, earlier names, brackets and
// + - * / // % **, as Python reckons with them. Strings of documentation and imports are passed
// over. nanoGPT's `dataset` gives both token files of data/<dataset>; names that only nanoGPT has
// are passed over, whatever their values are. Throws ConfigError at file:line:column.
PythonSettings read_python(const std::string& text, const std::string& file);

}  // namespace gpt2train
