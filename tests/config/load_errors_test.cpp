// The exact words that people read when a setting is wrong.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "tests/support/config_text.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::parse_yaml;

std::string config_error(const std::string& yaml, const std::vector<std::string>& words = {}) {
  try {
    parse_yaml(yaml, words);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

std::string load_error(const std::string& path) {
  try {
    load_config(path, {});
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(LoadConfigErrors, NameTheNearestSetting) {
  EXPECT_EQ(config_error("btach_size: 8"),
            "f.yaml:1:1: btach_size: unknown setting; did you mean batch_size?");
  EXPECT_EQ(config_error("model:\n  n_layr: 3"),
            "f.yaml:2:3: model.n_layr: unknown setting; did you mean n_layer?");
  EXPECT_EQ(config_error("model:\n  btach_size: 3"),
            "f.yaml:2:3: model.btach_size: unknown setting; did you mean training.batch_size?");
  EXPECT_EQ(config_error("memory: {devcie: h100}"),
            "f.yaml:1:10: memory.devcie: unknown setting; did you mean device?");
  EXPECT_EQ(config_error("modle: {n_layer: 3}"),
            "f.yaml:1:1: modle: unknown setting; did you mean model?");
  EXPECT_EQ(config_error("wandb_log: true"), "f.yaml:1:1: wandb_log: unknown setting");
  EXPECT_EQ(config_error("", {"btach_size=8"}),
            "--btach_size: unknown setting; did you mean batch_size?");
  EXPECT_EQ(config_error("", {"memory.limti=8"}),
            "--memory.limti: unknown setting; did you mean memory.limit?");
  EXPECT_EQ(config_error("", {"model=8"}), "--model: unknown setting");
  EXPECT_EQ(config_error("", {"=8"}), "--: unknown setting");
}

TEST(LoadConfigErrors, NameTheRightSection) {
  EXPECT_EQ(config_error("model:\n  batch_size: 8"),
            "f.yaml:2:3: model.batch_size: belongs in section training");
  EXPECT_EQ(config_error("model: {seed: 8}"), "f.yaml:1:9: model.seed: belongs at the top level");
  EXPECT_EQ(config_error("data: {device: cpu}"),
            "f.yaml:1:8: data.device: belongs at the top level");
}

TEST(LoadConfigErrors, NameBothPlacesOfASettingGivenTwice) {
  EXPECT_EQ(config_error("seed: 1\nseed: 1"), "f.yaml:2:1: seed: given twice, first at f.yaml:1:1");
  EXPECT_EQ(config_error("model:\n  n_layer: 3\n  n_layer: 4"),
            "f.yaml:3:3: model.n_layer: given twice, first at f.yaml:2:3");
  EXPECT_EQ(config_error("n_layer: 3\nmodel:\n  n_layer: 3"),
            "f.yaml:3:3: model.n_layer: given twice, first at f.yaml:1:1");
  EXPECT_EQ(config_error("model: {n_layer: 3}\nn_layer: 3"),
            "f.yaml:2:1: model.n_layer: given twice, first at f.yaml:1:9");
  EXPECT_EQ(config_error("model: {n_layer: 3}\nmodel: {n_head: 3}"),
            "f.yaml:2:1: model: given twice, first at f.yaml:1:1");
}

TEST(LoadConfigErrors, NameBothPlacesOfACardGivenTwice) {
  EXPECT_EQ(config_error("device: h100\nmemory: {device: rtx3060}"),
            "f.yaml:2:10: memory.device: given twice, first at f.yaml:1:1");
  EXPECT_EQ(config_error("memory: {device: rtx3060}\ndevice: h100"),
            "f.yaml:2:1: memory.device: given twice, first at f.yaml:1:10");
}

TEST(LoadConfigErrors, SayWhatWasExpectedAndFound) {
  const std::string integer = "expected integer in [1, 1024], found ";
  const std::string number = "expected number in [0, 1), found ";
  const struct {
    const char* setting;
    const char* value;
    std::string problem;
  } cases[] = {
      {"n_layer", "three", integer + "\"three\""},
      {"n_layer", "0", integer + "\"0\""},
      {"n_layer", "-3", integer + "\"-3\""},
      {"n_layer", "1025", integer + "\"1025\""},
      {"n_layer", "99999999999999999999", integer + "\"99999999999999999999\""},
      {"n_layer", "1e3", integer + "\"1e3\""},
      {"n_layer", "010", integer + "\"010\""},
      {"n_layer", "0x10", integer + "\"0x10\""},
      {"n_layer", "1_0", integer + "\"1_0\""},
      {"n_layer", "+3", integer + "\"+3\""},
      {"n_layer", "3.0", integer + "\"3.0\""},
      {"n_layer", "true", integer + "\"true\""},
      {"n_layer", "\"3 \"", integer + "\"3 \""},
      {"n_layer", "\"\"", integer + "\"\""},
      {"n_layer", "[3]", integer + "a list"},
      {"n_layer", "{a: 3}", integer + "a map"},
      {"dropout", "1", number + "\"1\""},
      {"dropout", "0.99999999999", number + "\"0.99999999999\""},
      {"dropout", "-0.1", number + "\"-0.1\""},
      {"dropout", ".nan", number + "\".nan\""},
      {"dropout", "nan", number + "\"nan\""},
      {"dropout", "00.1", number + "\"00.1\""},
      {"dropout", "1e-999", number + "\"1e-999\""},
      {"beta1", "1.0", number + "\"1.0\""},
      {"beta2", "-1", number + "\"-1\""},
      {"learning_rate", "inf", "expected number in [0, 1000], found \"inf\""},
      {"learning_rate", ".inf", "expected number in [0, 1000], found \".inf\""},
      {"adam_eps", "0", "expected number in [1e-30, 1], found \"0\""},
      {"seed", "-1", "expected integer in [0, 2^64), found \"-1\""},
      {"seed", "18446744073709551616",
       "expected integer in [0, 2^64), found \"18446744073709551616\""},
      {"vocab_size", "65537", "expected integer in [1, 65536], found \"65537\""},
      {"n_head", "0", "expected integer in [1, 256], found \"0\""},
      {"eval_interval", "0", "expected integer in [1, 2147483648], found \"0\""},
      {"eval_iters", "0", "expected integer in [1, 2147483648], found \"0\""},
      {"log_interval", "0", "expected integer in [1, 2147483648], found \"0\""},
      {"logits_rows", "0", "expected integer in [1, 2147483648], found \"0\""},
      {"max_iters", "-1", "expected integer in [0, 2147483648], found \"-1\""},
      {"bias", "yes", "expected one of true|false, found \"yes\""},
      {"device", "tpu",
       "expected one of auto|cpu|cuda, or a card (devices --catalogue), found \"tpu\""},
      {"device", "rtx3o60",
       "expected one of auto|cpu|cuda, or a card (devices --catalogue), found \"rtx3o60\"; did you "
       "mean rtx3060?"},
      {"dtype", "int32", "expected one of float32|bfloat16|float16, found \"int32\""},
      {"gelu", "relu", "expected one of erf|tanh, found \"relu\""},
      {"format", "txt", "expected one of auto|nanogpt|llmc|bytes, found \"txt\""},
      {"plan", "on", "expected one of auto|off, found \"on\""},
      {"recompute", "all", "expected one of auto|none|gelu|gelu+layernorm|block, found \"all\""},
      {"logits", "none", "expected one of chunked|full, found \"none\""},
      {"moments", "float16", "expected one of float32|bfloat16|int8, found \"float16\""},
      {"out_dir", "\"\"", "expected text, not empty, found \"\""},
  };
  for (const auto& c : cases) {
    const std::string yaml = concat(c.setting, ": ", c.value);
    const auto fields = list_fields();
    const auto field = std::find_if(fields.begin(), fields.end(),
                                    [&](const FieldInfo& f) { return f.name == c.setting; });
    ASSERT_NE(field, fields.end()) << c.setting;
    EXPECT_EQ(config_error(yaml), concat("f.yaml:1:", std::strlen(c.setting) + 3, ": ",
                                         field->path(), ": ", c.problem));
  }
  EXPECT_EQ(config_error("", {"batch_size=x"}),
            "--batch_size: expected integer in [1, 2147483648], found \"x\"");
  EXPECT_EQ(config_error("", {"out_dir="}), "--out_dir: expected text, not empty, found \"\"");
  EXPECT_EQ(config_error("training: {batch_size: x}", {"batch_size=3"}),
            "f.yaml:1:24: training.batch_size: expected integer in [1, 2147483648], found \"x\"");
}

TEST(LoadConfigErrors, RefuseMemoryLimitsThatAreNeitherBytesNorFraction) {
  for (const char* text :
       {"0", "0.0", "1.5", "1e9", "-1", "-1GiB", "0%", "101%", "-5%", "%", "10XB", "nan", "nan%",
        "inf", "", "lots", "0.5 %x", "99999999999999GiB"}) {
    EXPECT_EQ(config_error("", {concat("memory.limit=", text)}),
              concat("--memory.limit: expected auto, bytes (10GiB) or a fraction in (0, 1] "
                     "(0.8, 80%), found \"",
                     text, '"'));
  }
}

TEST(LoadConfigErrors, RefuseValuesThatAreNotThere) {
  EXPECT_EQ(config_error("training:\n  batch_size:\n  max_iters: 3"),
            "f.yaml:2:3: training.batch_size: expected integer in [1, 2147483648], found nothing");
  EXPECT_EQ(config_error("out_dir: null"),
            "f.yaml:1:1: out_dir: expected text, not empty, found nothing");
  EXPECT_EQ(config_error("trace: ~"), "f.yaml:1:1: memory.trace: expected text, found nothing");
}

TEST(LoadConfigErrors, RefuseWhatIsNoMapOfSettings) {
  EXPECT_EQ(config_error("- 1\n- 2"), "f.yaml:1:1: expected a map of settings, found a list");
  EXPECT_EQ(config_error("hello"), "f.yaml:1:1: expected a map of settings, found \"hello\"");
  EXPECT_EQ(config_error("model: 3"), "f.yaml:1:8: model: expected a map of settings, found \"3\"");
  EXPECT_EQ(config_error("model:\n- n_layer: 3"),
            "f.yaml:2:1: model: expected a map of settings, found a list");
  EXPECT_EQ(config_error("? [a]\n: 3"), "f.yaml:1:3: expected the name of a setting, found a list");
  EXPECT_EQ(config_error("model: {~: 3}"),
            "f.yaml:1:9: expected the name of a setting, found nothing");
  EXPECT_EQ(config_error("seed: 1\n---\nseed: 2"),
            "f.yaml:2:1: expected one YAML document, found more");
  EXPECT_EQ(config_error("{seed: 1} x"), "f.yaml:1:11: expected one YAML document, found more");
  EXPECT_EQ(config_error(",seed: 1"), "f.yaml:1:1: expected one YAML document, found more");
  EXPECT_EQ(config_error("model: &m {n_layer: 3}\ndata:\n  <<: *m"),
            "f.yaml:3:3: merge keys (<<) are not supported");
}

TEST(LoadConfigErrors, PointAtBadYaml) {
  EXPECT_EQ(config_error("seed: 1\nmodel: [1, 2"),
            "f.yaml:2:1: not valid YAML: end of sequence flow not found");
  EXPECT_EQ(config_error("seed: 1\n n_layer: 2"), "f.yaml:2:9: not valid YAML: illegal map value");
  // yaml-cpp 0.8 names the anchor as well.
  EXPECT_TRUE(config_error("seed: *x")
                  .starts_with("f.yaml:1:7: not valid YAML: the referenced anchor is not defined"));
  EXPECT_EQ(config_error("out_dir: 'x\nseed: 3\n\n"),
            "f.yaml:2:8: not valid YAML: illegal EOF in scalar");
  EXPECT_NE(config_error(std::string(100000, '[')).find("not valid YAML"), std::string::npos);
}

TEST(LoadConfigErrors, StayOnOneShortLine) {
  EXPECT_EQ(config_error("seed: |\n  a\n  b"),
            "f.yaml:1:7: seed: expected integer in [0, 2^64), found \"a b\"");
  EXPECT_EQ(config_error("\"a\\nb\": 3"), "f.yaml:1:1: a b: unknown setting");
  EXPECT_EQ(
      config_error("seed: " + std::string(500, 'x')),
      "f.yaml:1:7: seed: expected integer in [0, 2^64), found \"" + std::string(60, 'x') + "...\"");
}

TEST(LoadConfigErrors, PointAtTheSettingGivenLastOfThoseThatDisagree) {
  EXPECT_EQ(config_error("model:\n  n_head: 5\n  n_embd: 64"),
            "f.yaml:3:11: model.n_embd: n_embd 64 is not a multiple of n_head 5");
  EXPECT_EQ(config_error("model:\n  n_head: 5"),
            "f.yaml:2:11: model.n_head: n_embd 768 is not a multiple of n_head 5");
  EXPECT_EQ(config_error("n_embd: 64", {"n_head=5"}),
            "--n_head: n_embd 64 is not a multiple of n_head 5");
  EXPECT_EQ(config_error("learning_rate: 1e-5"),
            "f.yaml:1:16: optimizer.learning_rate: min_lr 6e-05 is above learning_rate 1e-05");
  EXPECT_EQ(config_error("lr_decay_iters: 10"),
            "f.yaml:1:17: optimizer.lr_decay_iters: warmup_iters 2000 is above lr_decay_iters 10");
  EXPECT_EQ(config_error("dtype: float16", {"master_weights=false"}),
            "--master_weights: float16 needs master_weights: of 16-bit weights, only bfloat16 ones "
            "are updated themselves");
  EXPECT_EQ(config_error("batch_size: 2147483648"),
            "f.yaml:1:13: training.batch_size: batch_size 2147483648 * gradient_accumulation_steps "
            "40 * block_size 1024 is above 2147483648 tokens an iteration");
  EXPECT_EQ(config_error("", {"batch_size=2147483648", "gradient_accumulation_steps=2147483648"}),
            "--gradient_accumulation_steps: batch_size 2147483648 * gradient_accumulation_steps "
            "2147483648 * block_size 1024 is above 2147483648 tokens an iteration");
}

TEST(LoadConfigErrors, SayWhyCudnnCannotTrainWithTheseSettings) {
  EXPECT_EQ(config_error("attention: cuddn"),
            "f.yaml:1:12: attention: expected one of native|cudnn|auto, found \"cuddn\"");
  EXPECT_EQ(config_error("attention: cudnn\ndtype: float32"),
            "f.yaml:2:8: dtype: attention by cuDNN needs dtype bfloat16 or float16, found float32");
  EXPECT_EQ(config_error("dropout: 0.1", {"attention=cudnn"}),
            "--attention: attention by cuDNN needs dropout 0, found 0.1: what cuDNN drops would "
            "change with the micro-batch");
  EXPECT_EQ(
      config_error("attention: cudnn\nn_embd: 60"),
      "f.yaml:2:9: model.n_embd: attention by cuDNN needs heads of a multiple of 8 up to 128, "
      "found n_embd 60 / n_head 12 = 5");
  EXPECT_EQ(
      config_error("attention: cudnn\nn_head: 3"),
      "f.yaml:2:9: model.n_head: attention by cuDNN needs heads of a multiple of 8 up to 128, "
      "found n_embd 768 / n_head 3 = 256");
  EXPECT_EQ(
      config_error("attention: cudnn\nblock_size: 1"),
      "f.yaml:2:13: model.block_size: attention by cuDNN needs block_size 2 or more, found 1");
}

TEST(LoadConfigErrors, NameFilesThatCannotBeRead) {
  const test::TempDir dir;
  EXPECT_EQ(load_error(dir / "none.yaml"),
            dir / "none.yaml" + ": cannot be read: No such file or directory");
  EXPECT_EQ(load_error(dir.path()), dir.path() + ": expected a YAML file, found a directory");
}

TEST(LoadConfigErrors, RefuseBinaryFiles) {
  EXPECT_EQ(config_error(std::string("seed: 1\n\0seed: 2", 16)),
            "f.yaml: not a text file: there is a zero byte in it");
}

// A damaged file is refused in one line or read; nothing else can come of it.
TEST(LoadConfig, SurvivesDamagedFiles) {
  const std::string whole = dump_config(RunConfig{});
  const std::string bytes = std::string("\0\n\t -:#&*!|>'\"%@`{}[],?<~\xff", 26);
  std::mt19937 random(1);
  for (int round = 0; round < 1000; ++round) {
    std::string damaged = whole.substr(0, round % 3 == 0 ? random() % whole.size() : whole.size());
    for (std::size_t edits = random() % 3 + 1; edits > 0 && !damaged.empty(); --edits) {
      const std::size_t at = random() % damaged.size();
      if (random() % 2 == 0) {
        damaged[at] = bytes[random() % bytes.size()];
      } else {
        damaged.insert(at, 1, bytes[random() % bytes.size()]);
      }
    }
    const std::string message = config_error(damaged);
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace gpt2train
