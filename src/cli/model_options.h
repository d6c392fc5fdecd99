// The options of the commands that only read a model: which one.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "src/run/trained_model.h"

namespace gpt2train {

// TrainedModel's notes, each a line.
void note_on_stderr(const std::string& text);

void add_model_options(CLI::App& app, ModelSource& source);

}  // namespace gpt2train
