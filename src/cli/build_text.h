#pragma once

#include <string>

namespace gpt2train {

// For --version: the version, then what this build has, a line each.
std::string version_and_build();

}  // namespace gpt2train
