// The catalogue of cards: what is built in, what users add, and what they read when that is wrong.
#include "gpt2train/config/devices.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

// A variable of the environment while this lives; null: not there.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    set(value);
  }
  ~Variable() { set(before_ ? before_->c_str() : nullptr); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  void set(const char* value) { value == nullptr ? unsetenv(name_) : setenv(name_, value, 1); }
  const char* name_;
  std::optional<std::string> before_;
};

// Tests see no file of whoever runs them.
class Devices : public ::testing::Test {
 protected:
  void write(const std::string& yaml) const {
    std::filesystem::create_directories(dir_.path() + "/gpt2train");
    std::ofstream(dir_.path() + "/gpt2train/devices.yaml") << yaml;
  }

  test::TempDir dir_;
  Variable named_{"GPT2TRAIN_DEVICES", nullptr};
  Variable config_{"XDG_CONFIG_HOME", dir_.path().c_str()};
};
using DeviceErrors = Devices;

std::string entry(const std::string& name, const std::string& changed = "",
                  const std::string& to = "") {
  std::string text = name +
                     ": {title: A card, compute_capability: 12.1, multiprocessors: 7, "
                     "memory: 10GiB, reserve: 512MiB, bandwidth_gb_s: 100.5, float32_tflops: 1.5, "
                     "tf32_tflops: 3, half_tflops: 6}\n";
  if (!changed.empty()) text.replace(text.find(changed), changed.size(), to);
  return text;
}

std::string error_of(const std::string& yaml) {
  try {
    parse_devices(yaml, "d.yaml");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(Devices, HaveTheMemoryThatNotesOnThemReport) {
  const auto gib = [](const char* name) {
    return static_cast<double>(find_device(name, "test").memory_bytes) / static_cast<double>(kGiB);
  };
  EXPECT_NEAR(gib("rtx3060"), 11.69, 1e-6);
  EXPECT_NEAR(gib("rtx3060-laptop"), 5.79, 1e-6);
  EXPECT_NEAR(gib("rtx4070"), 11.99, 1e-6);
  EXPECT_NEAR(gib("rtx4090"), 23.64, 1e-6);
  EXPECT_NEAR(gib("a100-40gb"), 39.39, 1e-6);
  EXPECT_NEAR(gib("h100"), 79.10, 1e-6);
}

// What holds for every card that this program runs on; a digit that slipped breaks it.
TEST_F(Devices, AreConsistentInTheirFigures) {
  std::set<std::string> names, titles;
  struct Clocks {
    double slowest, fastest;
  };
  const std::map<int, Clocks> clocks = {{80, {1.40e9, 1.42e9}},
                                        {86, {1.65e9, 1.90e9}},
                                        {89, {2.00e9, 2.65e9}},
                                        {90, {1.70e9, 2.00e9}},
                                        {120, {2.35e9, 2.65e9}}};
  for (const DeviceSpec& d : device_catalogue()) {
    SCOPED_TRACE(d.name);
    EXPECT_TRUE(names.insert(d.name).second);
    EXPECT_TRUE(titles.insert(d.title).second);
    ASSERT_TRUE(clocks.contains(d.compute_capability));
    EXPECT_LT(d.reserve_bytes * 8, d.memory_bytes);
    EXPECT_GT(d.bytes_per_second, 200e9);
    EXPECT_LT(d.bytes_per_second, 10e12);
    EXPECT_NEAR(d.half_flops / d.tf32_flops, 2.0, 0.04);
    // What is left of the rate without multiprocessors and their float32 lanes is a boost clock.
    const double lanes = d.compute_capability == 80 ? 64 : 128;
    const double clock = d.float32_flops / (2.0 * lanes * d.multiprocessors);
    EXPECT_GT(clock, clocks.at(d.compute_capability).slowest);
    EXPECT_LT(clock, clocks.at(d.compute_capability).fastest);
    // Tensor cores are as fast as the lanes in GeForce cards, and faster in those for data centres.
    EXPECT_GE(d.tf32_flops, d.float32_flops);
    if (d.name.starts_with("rtx") && d.name != "rtx-a6000") {
      EXPECT_DOUBLE_EQ(d.tf32_flops, d.float32_flops);
    }
  }
  EXPECT_GT(names.size(), 20u);
}

TEST_F(Devices, AreFoundByWhatADriverCallsThem) {
  std::set<std::string> driver_names;
  for (const DeviceSpec& d : device_catalogue()) {
    EXPECT_TRUE(driver_names.insert(d.driver_name).second) << d.driver_name;
  }
  EXPECT_EQ(find_driver_device("NVIDIA GeForce RTX 3060, sm_86")->name, "rtx3060");
  EXPECT_EQ(find_driver_device("NVIDIA GeForce RTX 4070 SUPER, sm_89")->name, "rtx4070super");
  EXPECT_EQ(find_driver_device("NVIDIA H100 80GB HBM3")->name, "h100");
  EXPECT_FALSE(find_driver_device("AMD EPYC 7B13, 4 threads"));
  EXPECT_FALSE(find_driver_device(""));
}

TEST_F(Devices, HaveTheUnitsThatTheirNamesSay) {
  const DeviceSpec d = parse_devices(entry("mine"), "d.yaml").at(0);
  EXPECT_EQ(d.name, "mine");
  EXPECT_EQ(d.title, "A card");
  EXPECT_EQ(d.driver_name, "NVIDIA A card");
  EXPECT_EQ(d.memory_bytes, 10 * kGiB);
  EXPECT_EQ(d.reserve_bytes, kGiB / 2);
  EXPECT_EQ(d.usable_bytes(), 19 * kGiB / 2);
  EXPECT_DOUBLE_EQ(d.bytes_per_second, 100.5e9);
  EXPECT_DOUBLE_EQ(d.float32_flops, 1.5e12);
  EXPECT_DOUBLE_EQ(d.tf32_flops, 3e12);
  EXPECT_DOUBLE_EQ(d.half_flops, 6e12);
  EXPECT_EQ(d.multiprocessors, 7);
  EXPECT_EQ(d.compute_capability, 121);
}

TEST_F(Devices, AreJoinedAndReplacedByTheUsers) {
  const std::size_t built_in = device_catalogue().size();
  write("# mine\n" + entry("mine") + entry("rtx3060"));
  const std::vector<DeviceSpec> devices = device_catalogue();
  EXPECT_EQ(devices.size(), built_in + 1);
  EXPECT_EQ(devices.back().name, "mine");
  EXPECT_EQ(find_device("rtx3060", "test").title, "A card");
}

TEST_F(Devices, OfAUserComeFromTheFileThatIsNamed) {
  const std::string path = dir_.path() + "/other.yaml";
  std::ofstream(path) << entry("other");
  write(entry("mine"));
  const Variable named("GPT2TRAIN_DEVICES", path.c_str());
  EXPECT_EQ(find_device("other", "test").title, "A card");
  EXPECT_THROW(find_device("mine", "test"), ConfigError);
}

TEST_F(Devices, OfAUserComeFromTheHomeFolder) {
  const Variable no_config("XDG_CONFIG_HOME", nullptr);
  const Variable home("HOME", (dir_.path() + "/home").c_str());
  EXPECT_THROW(find_device("mine", "test"), ConfigError);
  std::filesystem::create_directories(dir_.path() + "/home/.config/gpt2train");
  std::ofstream(dir_.path() + "/home/.config/gpt2train/devices.yaml") << entry("mine");
  EXPECT_EQ(find_device("mine", "test").title, "A card");
}

TEST_F(Devices, OfAUserMayBeNone) {
  const std::size_t built_in = device_catalogue().size();
  write("# nothing yet\n");
  EXPECT_EQ(device_catalogue().size(), built_in);
}

TEST_F(DeviceErrors, NameTheKnownOnes) {
  try {
    find_device("rtx3o60", "--device");
    FAIL();
  } catch (const ConfigError& error) {
    const std::string text = error.what();
    EXPECT_TRUE(text.starts_with("--device: \"rtx3o60\" is not one of rtx3060, ")) << text;
    EXPECT_TRUE(text.ends_with("; did you mean rtx3060?")) << text;
    EXPECT_NE(text.find(", h100, "), std::string::npos) << text;
  }
}

TEST_F(DeviceErrors, PointAtThePlace) {
  EXPECT_EQ(error_of(entry("mine", "memory", "memroy")),
            "d.yaml:1:69: mine.memroy: unknown key; did you mean memory?");
  EXPECT_EQ(error_of(entry("mine", "10GiB", "ten")),
            "d.yaml:1:77: mine.memory: expected bytes with their unit (11.69GiB, 480MiB), found "
            "\"ten\"");
  EXPECT_EQ(error_of("mine: 3"), "d.yaml:1:1: mine: expected a map of keys, found \"3\"");
  EXPECT_EQ(error_of("- mine"), "d.yaml:1:1: expected a map of devices, found a list");
  EXPECT_EQ(error_of(entry("a") + entry("a")), "d.yaml:2:1: a: given twice");
  EXPECT_EQ(error_of(entry("mine", "reserve: 512MiB", "title: B")),
            "d.yaml:1:84: mine.title: given twice");
  EXPECT_EQ(error_of(entry("mine", " reserve: 512MiB,", "")), "d.yaml:1:7: mine: has no reserve");
  EXPECT_EQ(error_of(entry("mine", "512MiB", "10GiB")),
            "d.yaml:1:7: mine: reserve 10.00 GiB of memory 10.00 GiB leaves nothing");
  EXPECT_EQ(error_of("mine: {"), "d.yaml:1:1: not valid YAML: end of map flow not found");
}

TEST_F(DeviceErrors, RefuseValuesThatAreNone) {
  const struct {
    const char *value, *instead;
  } cases[] = {{"A card", "\"\""},       {"12.1", "12"},     {"12.1", "12.10"},  {"12.1", ".1"},
               {": 7", ": 0"},           {": 7", ": 7.5"},   {"10GiB", "10"},    {"10GiB", "-1GiB"},
               {"10GiB", "0GiB"},        {"512MiB", "512"},  {"100.5", "0"},     {"100.5", "-1"},
               {"100.5", "100 GB/s"},    {": 1.5", ": nan"}, {": 1.5", ": inf"}, {": 3,", ": [3],"},
               {": 6", ": \"6 TFLOPS\""}};
  for (const auto& [value, instead] : cases) {
    const std::string error = error_of(entry("mine", value, instead));
    EXPECT_NE(error.find(": expected "), std::string::npos) << instead << ": " << error;
  }
}

TEST_F(DeviceErrors, OfAUsersFileNameIt) {
  write("mine: [1]");
  try {
    device_catalogue();
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_EQ(std::string(error.what()), dir_.path() +
                                             "/gpt2train/devices.yaml:1:1: mine: expected a map of "
                                             "keys, found a list");
  }
  const Variable named("GPT2TRAIN_DEVICES", "/nowhere/devices.yaml");
  EXPECT_THROW(device_catalogue(), ConfigError);
}

}  // namespace
}  // namespace gpt2train
