// Settings as a list, as a table and as YAML.
#include "gpt2train/config/fields.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "gpt2train/config/load.h"
#include "src/config/text.h"

namespace gpt2train {
namespace {

class Lister {
 public:
  void section(const char* name) { section_ = name; }

  template <class Value>
  void operator()(const char* name, const Value& value, const char* help, Range range = {}) {
    fields.push_back({.section = section_,
                      .name = name,
                      .type = type_of(value, range),
                      .default_text = text_of(value),
                      .help = help});
  }

  std::vector<FieldInfo> fields;

 private:
  std::string section_;
};

std::vector<FieldInfo> list_values(const RunConfig& config) {
  Lister lister;
  visit_fields(lister, config);
  return lister.fields;
}

std::string in_table_cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, 1, '\\');
  }
  return text;
}

}  // namespace

std::vector<FieldInfo> list_fields() {
  std::vector<FieldInfo> fields = list_values(RunConfig{});
  for (FieldInfo& field : fields) {
    if (field.default_text.empty()) field.default_text = "\"\"";
  }
  return fields;
}

std::string fields_markdown() {
  std::string table = "| setting | default | value | meaning |\n| --- | --- | --- | --- |\n";
  for (const FieldInfo& field : list_fields()) {
    table += fmt::format("| `{}` | `{}` | {} | {} |\n", field.path(), field.default_text,
                         in_table_cell(field.type), in_table_cell(field.help));
  }
  return table;
}

std::vector<std::pair<std::string, std::string>> settings_of(const RunConfig& config) {
  std::vector<std::pair<std::string, std::string>> settings;
  for (const FieldInfo& field : list_values(config)) {
    settings.emplace_back(field.path(), field.default_text);
  }
  return settings;
}

std::string dump_config(const RunConfig& config) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  std::string section;
  for (const FieldInfo& field : list_values(config)) {
    if (field.section != section) {
      if (!section.empty()) out << YAML::EndMap;
      section = field.section;
      out << YAML::Key << section << YAML::Value << YAML::BeginMap;
    }
    out << YAML::Key << field.name << YAML::Value;
    if (field.type.starts_with("text")) out << YAML::DoubleQuoted;  // bare, '\r' would be lost
    out << field.default_text;
  }
  out << YAML::EndMap << YAML::EndMap;
  return std::string(out.c_str()) + '\n';
}

}  // namespace gpt2train
