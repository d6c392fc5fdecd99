#include "src/config/yaml.h"

#include <yaml-cpp/eventhandler.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "gpt2train/core/error.h"
#include "src/config/text.h"

namespace gpt2train {
namespace {

// Where the document read last begins; what is in it goes nowhere.
struct DocumentStart : YAML::EventHandler {
  YAML::Mark mark;

  void OnDocumentStart(const YAML::Mark& start) override { mark = start; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// YAML::Load reads one document and is silent about the rest, be it one after a stray comma;
// YAML::LoadAll never returns from the latter.
void check_single_document(const std::string& yaml, const std::string& file) {
  std::istringstream stream(yaml);
  YAML::Parser parser(stream);
  DocumentStart document;
  parser.HandleNextDocument(document);
  if (!parser.HandleNextDocument(document)) return;
  throw ConfigError(place_of(document.mark, file), "expected one YAML document, found more");
}

}  // namespace

std::string text_of_file(const std::string& path) {
  if (std::error_code ignored; std::filesystem::is_directory(path, ignored)) {
    throw ConfigError(path, "expected a YAML file, found a directory");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError(path, concat("cannot be read: ", std::strerror(errno)));
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

YAML::Node read_yaml(std::string text, const std::string& file) {
  // yaml-cpp would take the zero byte for the end.
  if (text.find('\0') != std::string::npos) {
    throw ConfigError(file, "not a text file: there is a zero byte in it");
  }
  // Without this, yaml-cpp 0.7 lets the end of the file close a quote that was left open.
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  try {
    check_single_document(text, file);
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    throw ConfigError(place_of(error.mark, file), "not valid YAML: " + printable(error.msg));
  }
}

std::string place_of(const YAML::Mark& mark, const std::string& file) {
  if (mark.is_null()) return file;
  return concat(file, ':', mark.line + 1, ':', mark.column + 1);
}

std::string read_key(const YAML::Node& key, const char* what, const std::string& file) {
  if (!key.IsScalar()) {
    throw ConfigError(place_of(key.Mark(), file),
                      concat("expected the name of ", what, ", found ", describe(key)));
  }
  if (key.Scalar() == "<<") {
    throw ConfigError(place_of(key.Mark(), file), "merge keys (<<) are not supported");
  }
  return key.Scalar();
}

std::string describe(const YAML::Node& node) {
  if (node.IsScalar()) return in_quotes(node.Scalar());
  return node.IsMap() ? "a map" : node.IsSequence() ? "a list" : "nothing";
}

}  // namespace gpt2train
