#include "gpt2train/config/devices.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string_view>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "src/config/devices_yaml.h"
#include "src/config/text.h"
#include "src/config/yaml.h"

namespace gpt2train {
namespace {

bool read_positive(std::string_view text, double& value, double unit) {
  double number = 0.0;
  if (!parse(text, number) || !contains({1e-6, 1e9}, number)) return false;
  value = number * unit;
  return true;
}

// A bare number would be bytes, and is a slip.
bool read_bytes(std::string_view text, std::size_t& bytes) {
  if (text.empty() || text.back() != 'B') return false;
  bytes = parse_bytes(text).value_or(0);
  return bytes > 0;
}

bool read_count(std::string_view text, int& value) {
  std::int64_t number = 0;
  if (!parse(text, number) || number < 1 || number > 1'000'000) return false;
  value = static_cast<int>(number);
  return true;
}

bool read_capability(std::string_view text, int& value) {
  const std::size_t dot = text.find('.');
  int major = 0;
  if (dot == std::string_view::npos || dot + 2 != text.size()) return false;
  const char minor = text.back();
  if (!read_count(text.substr(0, dot), major) || minor < '0' || minor > '9') return false;
  value = 10 * major + (minor - '0');
  return true;
}

// What an entry has: each of these, once.
struct Key {
  const char* name;
  const char* type;
  bool (*read)(std::string_view text, DeviceSpec& spec);  // false where the text is no such value
  bool required = true;
};

bool read_words(std::string_view text, std::string& value) {
  value = text;
  return !text.empty();
}

constexpr const char* kBytes = "bytes with their unit (11.69GiB, 480MiB)";
constexpr const char* kPositive = "a number above 0";
constexpr double kGiga = 1e9, kTera = 1e12;
constexpr std::array kKeys = {
    Key{"title", "text, not empty",
        [](std::string_view text, DeviceSpec& spec) { return read_words(text, spec.title); }},
    Key{"driver_name", "text, not empty",
        [](std::string_view text, DeviceSpec& spec) { return read_words(text, spec.driver_name); },
        false},
    Key{"compute_capability", "major.minor (8.6)",
        [](std::string_view text, DeviceSpec& spec) {
          return read_capability(text, spec.compute_capability);
        }},
    Key{"multiprocessors", "an integer above 0",
        [](std::string_view text, DeviceSpec& spec) {
          return read_count(text, spec.multiprocessors);
        }},
    Key{"memory", kBytes,
        [](std::string_view text, DeviceSpec& spec) {
          return read_bytes(text, spec.memory_bytes);
        }},
    Key{"reserve", kBytes,
        [](std::string_view text, DeviceSpec& spec) {
          return read_bytes(text, spec.reserve_bytes);
        }},
    Key{"bandwidth_gb_s", kPositive,
        [](std::string_view text, DeviceSpec& spec) {
          return read_positive(text, spec.bytes_per_second, kGiga);
        }},
    Key{"float32_tflops", kPositive,
        [](std::string_view text, DeviceSpec& spec) {
          return read_positive(text, spec.float32_flops, kTera);
        }},
    Key{"tf32_tflops", kPositive,
        [](std::string_view text, DeviceSpec& spec) {
          return read_positive(text, spec.tf32_flops, kTera);
        }},
    Key{"half_tflops", kPositive, [](std::string_view text, DeviceSpec& spec) {
          return read_positive(text, spec.half_flops, kTera);
        }}};

const Key& find_key(const std::string& name, const std::string& where) {
  Nearest nearest(name);
  for (const Key& key : kKeys) {
    if (name == key.name) return key;
    nearest.consider(key.name, key.name);
  }
  throw ConfigError(where, "unknown key" + nearest.question());
}

DeviceSpec read_device(const std::string& name, const YAML::Node& map, const std::string& file) {
  DeviceSpec spec;
  spec.name = name;
  std::array<bool, kKeys.size()> given = {};
  for (const auto& entry : map) {
    const std::string key_name = read_key(entry.first, "a key", file);
    const std::string path = concat(printable(name), '.', printable(key_name));
    const std::string key_place = place_of(entry.first.Mark(), file);
    const Key& key = find_key(key_name, concat(key_place, ": ", path));
    bool& seen = given.at(static_cast<std::size_t>(&key - kKeys.data()));
    if (seen) throw ConfigError(concat(key_place, ": ", path), "given twice");
    seen = true;
    if (!entry.second.IsScalar() || !key.read(entry.second.Scalar(), spec)) {
      const std::string place =
          entry.second.IsNull() ? key_place : place_of(entry.second.Mark(), file);
      throw ConfigError(concat(place, ": ", path),
                        concat("expected ", key.type, ", found ", describe(entry.second)));
    }
  }
  const std::string where = concat(place_of(map.Mark(), file), ": ", printable(name));
  for (std::size_t i = 0; i < kKeys.size(); ++i) {
    if (kKeys[i].required && !given[i]) throw ConfigError(where, concat("has no ", kKeys[i].name));
  }
  if (spec.driver_name.empty()) spec.driver_name = "NVIDIA " + spec.title;
  if (spec.reserve_bytes >= spec.memory_bytes) {
    throw ConfigError(where, concat("reserve ", human_bytes(spec.reserve_bytes), " of memory ",
                                    human_bytes(spec.memory_bytes), " leaves nothing"));
  }
  return spec;
}

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Nothing where nobody made one; a file that was named must be there.
std::optional<std::string> users_file() {
  if (std::string named = variable("GPT2TRAIN_DEVICES"); !named.empty()) return named;
  const std::string home = variable("HOME");
  std::string folder = variable("XDG_CONFIG_HOME");
  if (folder.empty() && !home.empty()) folder = home + "/.config";
  const std::string path = folder + "/gpt2train/devices.yaml";
  std::error_code ignored;
  if (folder.empty() || !std::filesystem::exists(path, ignored)) return std::nullopt;
  return path;
}

auto with_name(std::vector<DeviceSpec>& devices, const std::string& name) {
  return std::find_if(devices.begin(), devices.end(),
                      [&](const DeviceSpec& device) { return device.name == name; });
}

}  // namespace

std::vector<DeviceSpec> parse_devices(const std::string& yaml, const std::string& file) {
  std::vector<DeviceSpec> devices;
  const YAML::Node top = read_yaml(yaml, file);
  if (top.IsNull()) return devices;
  if (!top.IsMap()) {
    throw ConfigError(place_of(top.Mark(), file),
                      "expected a map of devices, found " + describe(top));
  }
  for (const auto& entry : top) {
    const std::string name = read_key(entry.first, "a device", file);
    const std::string key_place = concat(place_of(entry.first.Mark(), file), ": ", printable(name));
    if (with_name(devices, name) != devices.end()) throw ConfigError(key_place, "given twice");
    if (!entry.second.IsMap()) {
      throw ConfigError(key_place, "expected a map of keys, found " + describe(entry.second));
    }
    devices.push_back(read_device(name, entry.second, file));
  }
  return devices;
}

std::vector<DeviceSpec> device_catalogue() {
  std::vector<DeviceSpec> devices = parse_devices(kDevicesYaml, "configs/devices.yaml");
  const std::optional<std::string> path = users_file();
  if (!path) return devices;
  for (DeviceSpec& device : parse_devices(text_of_file(*path), *path)) {
    const auto same = with_name(devices, device.name);
    if (same == devices.end()) {
      devices.push_back(std::move(device));
    } else {
      *same = std::move(device);
    }
  }
  return devices;
}

std::optional<DeviceSpec> find_driver_device(const std::string& name) {
  const std::string driver_name = name.substr(0, name.find(", sm_"));
  std::vector<DeviceSpec> devices = device_catalogue();
  const auto found = std::find_if(devices.begin(), devices.end(), [&](const DeviceSpec& device) {
    return device.driver_name == driver_name;
  });
  return found == devices.end() ? std::nullopt : std::optional(*found);
}

DeviceSpec find_device(const std::string& name, const std::string& where) {
  std::vector<DeviceSpec> devices = device_catalogue();
  if (const auto found = with_name(devices, name); found != devices.end()) return *found;
  Nearest nearest(name);
  std::string known;
  for (const DeviceSpec& device : devices) {
    known += concat(known.empty() ? "" : ", ", device.name);
    nearest.consider(device.name, device.name);
  }
  throw ConfigError(where, concat(in_quotes(name), " is not one of ", known, nearest.question()));
}

}  // namespace gpt2train
