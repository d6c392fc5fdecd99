// YAML read strictly: what yaml-cpp passes over in silence is a ConfigError that names the place.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>

namespace gpt2train {

// The bytes of a file. Throws ConfigError where it cannot be read.
std::string text_of_file(const std::string& path);

// The one document of a text, null where that is blank; `file` stands for it in messages.
YAML::Node read_yaml(std::string text, const std::string& file);

// "file:line:column", counted from one as editors do.
std::string place_of(const YAML::Mark& mark, const std::string& file);

// "the name of `what`", as text. Throws ConfigError for a key that is no scalar, and for `<<`.
std::string read_key(const YAML::Node& key, const char* what, const std::string& file);

// What was found, for a message: the scalar in quotes, "a map", "a list" or "nothing".
std::string describe(const YAML::Node& node);

}  // namespace gpt2train
