#include "src/cli/questions.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "gpt2train/core/error.h"

namespace gpt2train {
namespace {

ChoiceExample parse_question(const std::string& line, const std::string& where, TextCodec& codec) {
  try {
    const nlohmann::json json = nlohmann::json::parse(line);
    ChoiceExample example{.context = codec.encode(json.at("ctx").get<std::string>(), where),
                          .endings = {},
                          .label = json.at("label").get<std::int64_t>()};
    for (const auto& ending : json.at("endings")) {
      example.endings.push_back(codec.encode(' ' + ending.get<std::string>(), where));
    }
    if (example.label < 0 || example.label >= std::ssize(example.endings)) {
      throw DataError(
          where, concat("label ", example.label, " among ", example.endings.size(), " endings"));
    }
    return example;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(where, error.what());
  }
}

}  // namespace

std::vector<ChoiceExample> read_questions(const std::string& path, std::int64_t vocab_size,
                                          TextCodec* codec) {
  if (!path.ends_with(".jsonl")) return read_choices(path, vocab_size);
  if (codec == nullptr) {
    throw ConfigError("--hellaswag",
                      concat(path, " is text: name the model's vocabulary with --vocab"));
  }
  std::ifstream file(path);
  if (!file) throw DataError(path, "cannot be read");
  std::vector<ChoiceExample> examples;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    examples.push_back(parse_question(line, concat(path, ":", number), *codec));
  }
  if (examples.empty()) throw DataError(path, "no examples");
  return examples;
}

}  // namespace gpt2train
