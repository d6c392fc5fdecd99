// nanoGPT's config files: what is read, how it is reckoned, what is passed over, what is refused.
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "src/config/python.h"
#include "tests/support/config_text.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

// The value of the last setting.
std::string value_of(const std::string& python) {
  return read_python(python, "c.py").settings.back().value;
}

std::string error_of(const std::string& python) {
  try {
    const PythonSettings found = read_python(python, "c.py");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Python, IsReckonedAsPythonDoes) {
  // The right column is what Python 3.11 prints.
  const std::pair<const char*, const char*> kCases[] = {
      {"5 * 8", "40"},
      {"2 + 3 * 4", "14"},
      {"(2 + 3) * 4", "20"},
      {"-2 ** 2", "-4"},
      {"2 ** 3 ** 2", "512"},
      {"7 // 2", "3"},
      {"-7 // 2", "-4"},
      {"-7 % 3", "2"},
      {"7 % -3", "-2"},
      {"1_000_000", "1000000"},
      {"10 - 4 - 3", "3"},
      {"64 // 4 // 2", "8"},
      {"1e-3", "0.001"},
      {".5", "0.5"},
      {"True", "true"},
      {"False", "false"},
      {"'a' + \"b\"", "ab"},
      {"'it\\'s'", "it's"},
      {"+3", "3"},
      {"--3", "3"},
      {"2 ** 62", "4611686018427387904"},
      {"(-1) ** 1000000001", "-1"},
      {"9223372036854775807 % -1", "0"},
      {"3 / 2", "1.5"},
      {"2 ** -1", "0.5"},
  };
  for (const auto& [text, value] : kCases) {
    EXPECT_EQ(value_of(std::string("x = ") + text), value) << text;
  }
}

TEST(Python, RemembersNames) {
  EXPECT_EQ(value_of("learning_rate = 6e-4 # peak\nmin_lr = learning_rate / 10\n"),
            "5.9999999999999995e-05");
  EXPECT_EQ(value_of("a = 1\na = a + 1\nb = a\n"), "2");
}

TEST(Python, GivesTheSettingsOfATrainingRun) {
  const test::TempDir dir;
  const std::string path = dir / "train_tiny.py";
  std::ofstream(path) << "\"\"\"A run\nto try.\"\"\"\nimport time\n\nout_dir = 'out-tiny'\n"
                         "wandb_log = True # later\nwandb_run_name = 'x' + str(time.time())\n"
                         "compile = False\ndataset = 'shakespeare_char'\n"
                         "gradient_accumulation_steps = 5 * 8\nbatch_size = 12\nn_layer = 3\n"
                         "dropout = 0.2\nalways_save_checkpoint = False\ndevice = 'cpu'\n"
                         "dtype = 'float32'\nbias = True\nmax_iters = 1e3\n";
  const RunConfig config =
      load_config(path, {{.flag = "--batch_size", .key = "batch_size", .value = "8"}});
  EXPECT_EQ(config.out_dir, "out-tiny");
  EXPECT_EQ(config.data.train, "data/shakespeare_char/train.bin");
  EXPECT_EQ(config.data.val, "data/shakespeare_char/val.bin");
  EXPECT_EQ(config.training.gradient_accumulation_steps, 40);
  EXPECT_EQ(config.training.batch_size, 8);  // what the command line says
  EXPECT_EQ(config.training.max_iters, 1000);
  EXPECT_EQ(config.model.n_layer, 3);
  EXPECT_EQ(config.model.dropout, 0.2);
  EXPECT_TRUE(config.model.bias);
  EXPECT_FALSE(config.checkpoint.always_save_checkpoint);
  EXPECT_EQ(config.device, DeviceChoice::kCpu);
  EXPECT_EQ(config.dtype, DType::kFloat32);
  EXPECT_EQ(ignored_settings(path),
            (std::vector<std::string>{path + ":3: import ...", path + ":6: wandb_log",
                                      path + ":7: wandb_run_name", path + ":8: compile"}));
  test::expect_equal(parse_config(dump_config(config), "its YAML", {}), config);
}

TEST(Python, RefusesWhatIsNoSimpleAssignmentAndSaysWhere) {
  const std::pair<const char*, const char*> kCases[] = {
      {"x = 1\nprint(x)\n", "c.py:2:6: expected `name = value`"},
      {"if True:\n  x = 1\n", "c.py:1:4: expected `name = value`"},
      {"  x = 1\n", "c.py:1:3: expected an assignment at the beginning of the line"},
      {"x = y\n", "c.py:1:5: nothing is known of y yet"},
      {"x = 1\ny = x.real\n", "c.py:2:5: expected a simple value"},
      {"x = 'a\ny = 1\n", "c.py:1:5: this string has no end"},
      {"x = 1 / 0\n", "c.py:1:7: division by zero"},
      {"x = 1 % 0\n", "c.py:1:7: division by zero"},
      {"x = 'a' * 3\n", "c.py:1:9: `*` needs two numbers"},
      {"x = 2 ** 63\n", "c.py:1:7: the result is too large"},
      {"x = (-9223372036854775807 - 1) // -1\n", "c.py:1:32: the result is too large"},
      {"x = 1e308 * 10\n", "c.py:1:11: the result is not a finite number"},
      {"x = 010\n", "c.py:1:5: expected a decimal number"},
      {"x = 0x10\n", "c.py:1:5: expected a decimal number"},
      {"x = 1.2.3\n", "c.py:1:5: expected a number"},
      {"x = (1\n", "c.py:1:7: expected `)`"},
      {"x = \n", "c.py:1:5: expected a number, a string, True, False or a name"},
      {"x = 1 2\n", "c.py:1:7: expected the end of the line"},
      {"x += 1\n", "c.py:1:3: expected `name = value`"},
      {"x == 1\n", "c.py:1:3: expected `name = value`"},
      {"x = '\\q'\n", "c.py:1:6: expected \\\\, \\', \\\", \\n or \\t"},
  };
  for (const auto& [text, message] : kCases) EXPECT_EQ(error_of(text), message) << text;
  EXPECT_EQ(error_of("x = " + std::string(1000, '(')), "c.py:1:105: nested too deeply");
  EXPECT_EQ(error_of("x = " + std::string(1000, '-') + "1"), "c.py:1:105: nested too deeply");
}

TEST(Python, PointsAtASettingThatIsWrong) {
  const test::TempDir dir;
  const std::string path = dir / "bad.py";
  const auto error = [&](const char* python) -> std::string {
    std::ofstream(path) << python;
    try {
      static_cast<void>(load_config(path, {}));
    } catch (const ConfigError& problem) {
      return problem.what();
    }
    return "no error";
  };
  EXPECT_EQ(error("n_layer = 12\nn_head = 0\n"),
            path + ":2:1: n_head: expected integer in [1, 256], found \"0\"");
  EXPECT_NE(error("n_layers = 12\n").find(":1:1: n_layers: unknown setting; did you mean n_layer?"),
            std::string::npos);
  EXPECT_NE(error("n_head = 7\n").find("n_embd 768 is not a multiple of n_head 7"),
            std::string::npos);
}

}  // namespace
}  // namespace gpt2train
