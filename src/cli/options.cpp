#include "src/cli/options.h"

#include <map>

#include "src/cli/terminal.h"

namespace gpt2train {

RunConfig load_config(const ConfigOptions& options) {
  return load_config(options.file, options.overrides);
}

void add_quiet(CLI::App& app) {
  app.add_flag_callback("-q,--quiet", be_quiet, "tell errors alone");
}

void add_config_options(CLI::App& app, ConfigOptions& options) {
  app.add_option("-c,--config", options.file, "YAML file of settings")->type_name("FILE");

  const std::vector<FieldInfo> fields = list_fields();
  std::map<std::string, int> leaf_uses;
  for (const FieldInfo& field : fields) ++leaf_uses[field.name];
  for (const FieldInfo& field : fields) {
    // memory.device shares its leaf name with device, which is a path of its own.
    const bool leaf_is_path = field.section.empty();
    const bool leaf_is_free = leaf_uses[field.name] == 1;
    std::string names;
    if (leaf_is_path || leaf_is_free) names = "--" + field.name;
    if (!leaf_is_path) names += (names.empty() ? "--" : ",--") + field.path();

    const std::string flag = "--" + (leaf_is_path || leaf_is_free ? field.name : field.path());
    app.add_option_function<std::string>(
           names,
           [&options, flag, path = field.path()](const std::string& value) {
             options.overrides.push_back({.flag = flag, .key = path, .value = value});
           },
           field.help)
        ->type_name(field.type)
        ->default_str(field.default_text)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
        ->group(field.section.empty() ? "settings" : field.section);
  }
}

}  // namespace gpt2train
