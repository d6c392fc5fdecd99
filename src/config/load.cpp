#include "gpt2train/config/load.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "gpt2train/config/devices.h"
#include "gpt2train/config/fields.h"
#include "gpt2train/core/error.h"
#include "gpt2train/train/attention.h"
#include "src/config/python.h"
#include "src/config/text.h"
#include "src/config/yaml.h"

namespace gpt2train {
namespace {

// Reads the text of one setting into its member.
struct Setter {
  const FieldInfo& field;
  const std::string& text;
  const std::string& where;
  std::string current_section = {};

  void section(const char* name) { current_section = name; }

  template <class Value>
  void operator()(const char* name, Value& value, const char*, Range range = {}) {
    if (field.name != name || field.section != current_section) return;
    Value parsed{};
    if (!parse(text, parsed) || !contains(range, parsed)) {
      throw ConfigError(where, concat("expected ", field.type, ", found ", in_quotes(text)));
    }
    value = parsed;
  }
};

class ConfigLoader {
 public:
  explicit ConfigLoader(const std::string& file) : file_(file) {}

  void read_file(const std::string& yaml) {
    const YAML::Node top = read_yaml(yaml, file_);
    if (!top.IsNull()) read_top_level(top);  // else blank, or comments alone
  }

  void read_override(const Override& given) {
    const FieldInfo* field = find(given.key);
    if (field == nullptr) throw ConfigError(given.flag, "unknown setting" + suggest("", given.key));
    given_.push_back({.path = field->path(), .key_place = given.flag, .where = given.flag});
    set(*field, given.value);
  }

  RunConfig finish() const {
    check_together();
    return config_;
  }

 private:
  struct Given {
    std::string path;       // of a setting or a section
    std::string key_place;  // "file:line:column", or the flag
    std::string where;      // how a message about the value begins: "file:line:column: path"
  };

  void read_top_level(const YAML::Node& top) {
    if (!top.IsMap()) {
      throw ConfigError(place_of(top.Mark(), file_),
                        "expected a map of settings, found " + describe(top));
    }
    for (const auto& entry : top) {
      const std::string key = read_key(entry.first, "a setting", file_);
      if (is_section(key)) {
        read_section(key, entry.first, entry.second);
      } else if (const FieldInfo* field = find(key)) {
        read_setting(*field, entry.first, entry.second);
      } else {
        throw ConfigError(concat(place_of(entry.first.Mark(), file_), ": ", printable(key)),
                          "unknown setting" + suggest("", key));
      }
    }
  }

  void read_section(const std::string& section, const YAML::Node& key, const YAML::Node& value) {
    note(section, key, value);
    if (value.IsNull()) return;  // every line in it is a comment
    if (!value.IsMap()) {
      throw ConfigError(given_.back().where,
                        "expected a map of settings, found " + describe(value));
    }
    for (const auto& entry : value) {
      const std::string name = read_key(entry.first, "a setting", file_);
      const std::string path = concat(section, '.', name);
      const std::string where = concat(place_of(entry.first.Mark(), file_), ": ", printable(path));
      if (const FieldInfo* field = find(path)) {
        read_setting(*field, entry.first, entry.second);
      } else if (const FieldInfo* elsewhere = find(name)) {
        throw ConfigError(where, elsewhere->section.empty()
                                     ? "belongs at the top level"
                                     : "belongs in section " + elsewhere->section);
      } else {
        throw ConfigError(where, "unknown setting" + suggest(section, name));
      }
    }
  }

  void read_setting(const FieldInfo& field, const YAML::Node& key, const YAML::Node& value) {
    note(field.path(), key, value);
    if (!value.IsScalar()) {
      throw ConfigError(given_.back().where,
                        concat("expected ", field.type, ", found ", describe(value)));
    }
    set(field, value.Scalar());
    const bool card = field.path() == "device" && value.Scalar() == config_.memory.device;
    if (card) note("memory.device", key, value);
  }

  // yaml-cpp keeps both of two equal keys, and here a setting also has two places.
  void note(const std::string& path, const YAML::Node& key, const YAML::Node& value) {
    const std::string key_place = place_of(key.Mark(), file_);
    for (const Given& first : given_) {
      if (first.path != path) continue;
      throw ConfigError(concat(key_place, ": ", path), "given twice, first at " + first.key_place);
    }
    // The mark of an absent value is that of whatever follows.
    const std::string place = value.IsNull() ? key_place : place_of(value.Mark(), file_);
    given_.push_back({path, key_place, concat(place, ": ", path)});
  }

  // The text is of the setting noted last.
  void set(const FieldInfo& field, const std::string& text) {
    DeviceChoice kind{};
    if (field.path() == "device" && !parse(text, kind)) return set_card(field, text);
    visit_fields(Setter{field, text, given_.back().where}, config_);
  }

  // A card as the device is CUDA with the memory of that card.
  void set_card(const FieldInfo& field, const std::string& text) {
    Nearest nearest(text);
    for (const DeviceSpec& card : device_catalogue()) {
      nearest.consider(card.name, card.name);
      if (card.name != text) continue;
      config_.device = DeviceChoice::kCuda;
      config_.memory.device = card.name;
      return;
    }
    throw ConfigError(given_.back().where, concat("expected ", field.type, ", found ",
                                                  in_quotes(text), nearest.question()));
  }

  void check_together() const {
    const ModelConfig& model = config_.model;
    require(model.n_embd % model.n_head == 0, {"model.n_embd", "model.n_head"},
            concat("n_embd ", model.n_embd, " is not a multiple of n_head ", model.n_head));

    const std::string objection = cudnn_objection(config_);
    require(
        config_.attention != Attention::kCudnn || objection.empty(),
        {"attention", "dtype", "model.dropout", "model.n_embd", "model.n_head", "model.block_size"},
        objection);

    const OptimizerConfig& optimizer = config_.optimizer;
    require(!optimizer.decay_lr || optimizer.min_lr <= optimizer.learning_rate,
            {"optimizer.min_lr", "optimizer.learning_rate", "optimizer.decay_lr"},
            concat("min_lr ", text_of(optimizer.min_lr), " is above learning_rate ",
                   text_of(optimizer.learning_rate)));
    require(!optimizer.decay_lr || optimizer.warmup_iters <= optimizer.lr_decay_iters,
            {"optimizer.warmup_iters", "optimizer.lr_decay_iters", "optimizer.decay_lr"},
            concat("warmup_iters ", optimizer.warmup_iters, " is above lr_decay_iters ",
                   optimizer.lr_decay_iters));

    require(config_.memory.master_weights || config_.dtype != DType::kFloat16,
            {"memory.master_weights", "dtype"},
            "float16 needs master_weights: of 16-bit weights, only bfloat16 ones are updated "
            "themselves");

    require(!config_.memory.tune || config_.memory.plan == PlanMode::kAuto,
            {"memory.tune", "memory.plan"},
            "memory.tune chooses a plan before the run; with plan: off there is none to choose");

    const TrainingConfig& training = config_.training;
    constexpr std::int64_t kMostTokens = std::int64_t{1} << 31;
    require(training.effective_batch() <= kMostTokens / model.block_size,
            {"training.batch_size", "training.gradient_accumulation_steps", "model.block_size"},
            concat("batch_size ", training.batch_size, " * gradient_accumulation_steps ",
                   training.gradient_accumulation_steps, " * block_size ", model.block_size,
                   " is above ", kMostTokens, " tokens an iteration"));
  }

  // A broken rule points at the last given of the settings that it spans.
  void require(bool holds, std::initializer_list<std::string_view> paths,
               const std::string& problem) const {
    if (holds) return;
    const auto last = std::find_if(given_.rbegin(), given_.rend(), [&](const Given& given) {
      return std::find(paths.begin(), paths.end(), given.path) != paths.end();
    });
    throw ConfigError(last == given_.rend() ? "defaults" : last->where, problem);
  }

  // By path or by leaf name; the top level comes first, so `device` is not memory.device.
  const FieldInfo* find(const std::string& key) const {
    const auto field = std::find_if(fields_.begin(), fields_.end(), [&](const FieldInfo& f) {
      return key == f.path() || key == f.name;
    });
    return field == fields_.end() ? nullptr : &*field;
  }

  bool is_section(const std::string& key) const {
    return !key.empty() && std::any_of(fields_.begin(), fields_.end(),
                                       [&](const FieldInfo& f) { return key == f.section; });
  }

  // "; did you mean n_layer?", or nothing where no known name is near. An empty section is any.
  std::string suggest(const std::string& section, const std::string& key) const {
    Nearest nearest(key);
    for (const FieldInfo& field : fields_) {
      const bool here = section.empty() || field.section == section;
      nearest.consider(field.name, here ? field.name : field.path());
      nearest.consider(field.path(), field.path());
      if (section.empty()) nearest.consider(field.section, field.section);
    }
    return nearest.question();
  }

  const std::string file_;
  const std::vector<FieldInfo> fields_ = list_fields();
  RunConfig config_;
  std::vector<Given> given_;  // in order
};

bool is_python(const std::string& path) {
  return path.ends_with(".py");
}

}  // namespace

RunConfig load_config(const std::string& path, const std::vector<Override>& overrides) {
  if (!is_python(path)) {
    return parse_config(path.empty() ? "" : text_of_file(path), path, overrides);
  }
  std::vector<Override> all = read_python(text_of_file(path), path).settings;
  all.insert(all.end(), overrides.begin(), overrides.end());
  return parse_config("", path, all);
}

std::vector<std::string> ignored_settings(const std::string& path) {
  return is_python(path) ? read_python(text_of_file(path), path).ignored
                         : std::vector<std::string>{};
}

RunConfig parse_config(const std::string& yaml, const std::string& name,
                       const std::vector<Override>& overrides) {
  ConfigLoader loader(name);
  loader.read_file(yaml);
  for (const Override& given : overrides) loader.read_override(given);
  return loader.finish();
}

}  // namespace gpt2train
