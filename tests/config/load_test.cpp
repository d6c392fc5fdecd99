// Settings as people write them, and the exact words they read when something is wrong.
#include "gpt2train/config/load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gpt2train/config/fields.h"
#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

// "batch_size=8" as --batch_size=8 reaches the loader.
std::vector<Override> flags(const std::vector<std::string>& words) {
  std::vector<Override> overrides;
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    overrides.push_back({"--" + key, key, word.substr(equals + 1)});
  }
  return overrides;
}

RunConfig parse_yaml(const std::string& yaml, const std::vector<std::string>& words = {}) {
  return parse_config(yaml, "f.yaml", flags(words));
}

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

// Bits, not values: -0.0 is not 0.0.
template <class Value>
bool same(const Value& a, const Value& b) {
  return a == b;
}
bool same(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}
bool same(const MemoryLimit& a, const MemoryLimit& b) {
  return a.kind == b.kind && a.bytes == b.bytes && same(a.fraction, b.fraction);
}

struct Addresses {
  void section(const char*) {}
  template <class Value>
  void operator()(const char*, Value& value, const char*, Range = {}) {
    list.push_back(&value);
  }
  std::vector<const void*> list = {};
};

// Expects each setting to equal the one at the same position of `others`.
struct Comparer {
  void section(const char*) {}
  template <class Value>
  void operator()(const char* name, Value& value, const char*, Range = {}) {
    EXPECT_TRUE(same(value, *static_cast<const Value*>(others.at(next++)))) << name;
  }
  std::vector<const void*> others = {};
  std::size_t next = 0;
};

void expect_equal(RunConfig a, RunConfig b) {
  Addresses addresses;
  visit_fields(addresses, a);
  visit_fields(Comparer{addresses.list}, b);
}

TEST(LoadConfig, GivesDefaultsForAFileWithoutSettings) {
  for (const char* yaml : {"", "\n \n", "# nothing\n", "{}", "---\n", "model:\n", "\xef\xbb\xbf"}) {
    expect_equal(parse_yaml(yaml), RunConfig{});
  }
  expect_equal(load_config("", {}), RunConfig{});
}

TEST(LoadConfig, ReadsEverySection) {
  const RunConfig c = parse_yaml(R"(
out_dir: runs/a b
init_from: resume
seed: 18446744073709551615
device: cpu
dtype: float32
model: {n_layer: 3, n_head: 4, n_embd: 32, block_size: 64, vocab_size: 65536, bias: true,
        dropout: 0.25, gelu: tanh}
data: {train: "a*.bin", val: 'b', format: llmc}
training: {batch_size: 5, gradient_accumulation_steps: 6, max_iters: 0, log_interval: 8}
evaluation: {eval_interval: 9, eval_iters: 10, eval_only: true}
optimizer: {learning_rate: 1e-3, min_lr: 0, warmup_iters: 11, lr_decay_iters: 12, decay_lr: false,
            weight_decay: .5, beta1: 0, beta2: 0.99, adam_eps: 1E-9, grad_clip: 2.}
checkpoint: {checkpoint_interval: 13, keep_checkpoints: 14, always_save_checkpoint: False}
memory: {limit: 10GiB, plan: off, device: rtx3060, trace: t.csv, recompute: gelu+layernorm,
         logits: full, logits_rows: 15}
)");
  EXPECT_EQ(c.out_dir, "runs/a b");
  EXPECT_EQ(c.init_from, "resume");
  EXPECT_EQ(c.seed, std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(c.device, DeviceChoice::kCpu);
  EXPECT_EQ(c.dtype, DType::kFloat32);
  EXPECT_EQ(c.model, (ModelConfig{3, 4, 32, 64, 65536, true, 0.25, GeluForm::kTanh}));
  EXPECT_EQ(c.data.train, "a*.bin");
  EXPECT_EQ(c.data.val, "b");
  EXPECT_EQ(c.data.format, TokenFormat::kLlmc);
  EXPECT_EQ(c.training.batch_size, 5);
  EXPECT_EQ(c.training.gradient_accumulation_steps, 6);
  EXPECT_EQ(c.training.max_iters, 0);
  EXPECT_EQ(c.training.log_interval, 8);
  EXPECT_EQ(c.evaluation.eval_interval, 9);
  EXPECT_EQ(c.evaluation.eval_iters, 10);
  EXPECT_TRUE(c.evaluation.eval_only);
  EXPECT_EQ(c.optimizer.learning_rate, 1e-3);
  EXPECT_EQ(c.optimizer.min_lr, 0.0);
  EXPECT_EQ(c.optimizer.warmup_iters, 11);
  EXPECT_EQ(c.optimizer.lr_decay_iters, 12);
  EXPECT_FALSE(c.optimizer.decay_lr);
  EXPECT_EQ(c.optimizer.weight_decay, 0.5);
  EXPECT_EQ(c.optimizer.beta1, 0.0);
  EXPECT_EQ(c.optimizer.beta2, 0.99);
  EXPECT_EQ(c.optimizer.adam_eps, 1e-9);
  EXPECT_EQ(c.optimizer.grad_clip, 2.0);
  EXPECT_EQ(c.checkpoint.checkpoint_interval, 13);
  EXPECT_EQ(c.checkpoint.keep_checkpoints, 14);
  EXPECT_FALSE(c.checkpoint.always_save_checkpoint);
  EXPECT_EQ(c.memory.limit.bytes, 10 * kGiB);
  EXPECT_EQ(c.memory.plan, PlanMode::kOff);
  EXPECT_EQ(c.memory.device, "rtx3060");
  EXPECT_EQ(c.memory.trace, "t.csv");
  EXPECT_EQ(c.memory.recompute, Recompute::kGeluLayerNorm);
  EXPECT_EQ(c.memory.logits, Logits::kFull);
  EXPECT_EQ(c.memory.logits_rows, 15);
}

TEST(LoadConfig, TakesLeafNamesAtTheTopLevel) {
  const RunConfig c = parse_yaml("batch_size: 8\ntrain: x.bin\ndevice: cpu\nmodel: {n_head: 6}\n");
  EXPECT_EQ(c.training.batch_size, 8);
  EXPECT_EQ(c.data.train, "x.bin");
  EXPECT_EQ(c.device, DeviceChoice::kCpu);
  EXPECT_EQ(c.memory.device, "");
  EXPECT_EQ(c.model.n_head, 6);
}

TEST(LoadConfig, ReadsScalarAliases) {
  const RunConfig c = parse_yaml("max_iters: &end 70\nlr_decay_iters: *end\nwarmup_iters: 0\n");
  EXPECT_EQ(c.training.max_iters, 70);
  EXPECT_EQ(c.optimizer.lr_decay_iters, 70);
}

TEST(LoadConfig, AppliesFlagsInOrderByNameOrPath) {
  const RunConfig c = parse_yaml("training: {batch_size: 8}\n",
                                 {"batch_size=3", "training.batch_size=4", "device=cuda",
                                  "memory.device=h100", "out_dir=a: b", "n_head=7", "n_embd=14"});
  EXPECT_EQ(c.training.batch_size, 4);
  EXPECT_EQ(c.device, DeviceChoice::kCuda);
  EXPECT_EQ(c.memory.device, "h100");
  EXPECT_EQ(c.out_dir, "a: b");
  EXPECT_EQ(c.model.head_size(), 2);
}

TEST(LoadConfig, AcceptsShortNamesOfDtypes) {
  EXPECT_EQ(parse_yaml("dtype: fp32").dtype, DType::kFloat32);
  EXPECT_EQ(parse_yaml("dtype: bf16").dtype, DType::kBFloat16);
  EXPECT_EQ(parse_yaml("dtype: fp16").dtype, DType::kFloat16);
  EXPECT_EQ(parse_yaml("dtype: bfloat16").dtype, DType::kBFloat16);
  EXPECT_EQ(parse_yaml("dtype: float16").dtype, DType::kFloat16);
}

TEST(LoadConfig, ReadsMemoryLimits) {
  const auto limit = [](const std::string& text) {
    return parse_yaml("", {"memory.limit=" + text}).memory.limit;
  };
  const auto expect_bytes = [&](const std::string& text, std::size_t bytes) {
    EXPECT_TRUE(same(limit(text), {MemoryLimit::Kind::kBytes, bytes, 0.0})) << text;
  };
  const auto expect_share = [&](const std::string& text, double share) {
    EXPECT_TRUE(same(limit(text), {MemoryLimit::Kind::kFraction, 0, share})) << text;
  };
  EXPECT_TRUE(same(limit("auto"), {}));
  expect_bytes("10GiB", 10 * kGiB);
  expect_bytes("512 MiB", 512 * kMiB);
  expect_bytes("0.5G", kGiB / 2);
  expect_bytes("4096", 4096);
  expect_bytes("1", 1);
  expect_share("1.0", 1.0);
  expect_share("0.8", 0.8);
  expect_share("1e-05", 1e-5);
  expect_share("80%", 0.8);
  expect_share("12.5%", 0.125);
  expect_share("100%", 1.0);
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
      {"device", "tpu", "expected one of auto|cpu|cuda, found \"tpu\""},
      {"dtype", "int32", "expected one of float32|bfloat16|float16, found \"int32\""},
      {"gelu", "relu", "expected one of erf|tanh, found \"relu\""},
      {"format", "txt", "expected one of auto|nanogpt|llmc|bytes, found \"txt\""},
      {"plan", "on", "expected one of auto|off, found \"on\""},
      {"recompute", "all", "expected one of auto|none|gelu|gelu+layernorm|block, found \"all\""},
      {"logits", "none", "expected one of chunked|full, found \"none\""},
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
  EXPECT_EQ(config_error("seed: *x"),
            "f.yaml:1:7: not valid YAML: the referenced anchor is not defined");
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
  EXPECT_EQ(config_error("batch_size: 2147483648"),
            "f.yaml:1:13: training.batch_size: batch_size 2147483648 * gradient_accumulation_steps "
            "40 * block_size 1024 is above 2147483648 tokens an iteration");
  EXPECT_EQ(config_error("", {"batch_size=2147483648", "gradient_accumulation_steps=2147483648"}),
            "--gradient_accumulation_steps: batch_size 2147483648 * gradient_accumulation_steps "
            "2147483648 * block_size 1024 is above 2147483648 tokens an iteration");
}

TEST(LoadConfig, LetsLaterSettingsRepairEarlierOnes) {
  EXPECT_EQ(parse_yaml("n_head: 5", {"n_embd=65"}).model.n_embd, 65);
  EXPECT_EQ(parse_yaml("block_size: 1024\nbatch_size: 2097152\ngradient_accumulation_steps: 1")
                .training.batch_size,
            2097152);
  // Without decay neither min_lr nor the warm-up is looked at.
  EXPECT_EQ(
      parse_yaml("decay_lr: false\nlearning_rate: 1e-5\nlr_decay_iters: 1").optimizer.learning_rate,
      1e-5);
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

TEST(LoadConfig, ReadsFilesWithWindowsLineEnds) {
  const test::TempDir dir;
  test::write_file(dir / "a.yaml", "seed: 5\r\nmodel:\r\n  n_layer: 2\r\n");
  const RunConfig c = load_config(dir / "a.yaml", flags({"n_head=6"}));
  EXPECT_EQ(c.seed, 5u);
  EXPECT_EQ(c.model.n_layer, 2);
  EXPECT_EQ(c.model.n_head, 6);
}

// Sets each setting to a random value that the cross-setting checks accept.
class Randomizer {
 public:
  explicit Randomizer(unsigned seed) : random_(seed) {}

  RunConfig config() {
    RunConfig c;
    visit_fields(*this, c);
    c.model.n_embd = c.model.n_head * below(16384 / 256 + 1);
    c.model.n_embd = std::max(c.model.n_embd, c.model.n_head);
    c.model.block_size = 1 + below(1024);
    c.training.batch_size = 1 + below(1024);
    c.training.gradient_accumulation_steps = 1 + below(1024);
    if (c.optimizer.min_lr > c.optimizer.learning_rate) {
      std::swap(c.optimizer.min_lr, c.optimizer.learning_rate);
    }
    if (c.optimizer.warmup_iters > c.optimizer.lr_decay_iters) {
      std::swap(c.optimizer.warmup_iters, c.optimizer.lr_decay_iters);
    }
    return c;
  }

  void section(const char*) {}
  template <class Value>
  void operator()(const char*, Value& value, const char*, Range range = {}) {
    pick(value, range);
  }

 private:
  std::int64_t below(std::int64_t end) {
    return std::uniform_int_distribution<std::int64_t>(0, end - 1)(random_);
  }
  template <class Value, std::size_t kCount>
  Value one_of(const Value (&values)[kCount]) {
    return values[below(kCount)];
  }

  void pick(std::string& value, const Range&) {
    const std::string pieces[] = {"null", "~",  "true", "12", " ",    "#", ": ", "- ",  "\n", "\t",
                                  "\"",   "'",  "\\",   "é",  "*",    "&", "{",  "]",   "%",  "|",
                                  "---",  "\r", "?",    ",",  "\x7f", "a", "<<", "...", "!",  "@"};
    value = one_of(pieces);
    for (std::int64_t more = below(4); more > 0; --more) value += one_of(pieces);
  }
  void pick(std::int64_t& value, const Range& range) {
    const auto low = static_cast<std::int64_t>(range.low);
    value = low + below(static_cast<std::int64_t>(range.high) - low + 1);
  }
  void pick(std::uint64_t& value, const Range&) { value = random_(); }
  void pick(double& value, const Range& range) {
    std::uniform_real_distribution<double> exponent(-30.0, 0.0);
    value = range.low + (range.high - range.low) * 0.999 * std::pow(10.0, exponent(random_));
  }
  void pick(bool& value, const Range&) { value = below(2) == 1; }
  void pick(DeviceChoice& value, const Range&) {
    value = one_of({DeviceChoice::kAuto, DeviceChoice::kCpu, DeviceChoice::kCuda});
  }
  void pick(DType& value, const Range&) {
    value = one_of({DType::kFloat32, DType::kBFloat16, DType::kFloat16});
  }
  void pick(GeluForm& value, const Range&) { value = one_of({GeluForm::kErf, GeluForm::kTanh}); }
  void pick(TokenFormat& value, const Range&) {
    value = one_of(
        {TokenFormat::kAuto, TokenFormat::kNanoGpt, TokenFormat::kLlmc, TokenFormat::kBytes});
  }
  void pick(PlanMode& value, const Range&) { value = one_of({PlanMode::kAuto, PlanMode::kOff}); }
  void pick(Logits& value, const Range&) { value = one_of({Logits::kChunked, Logits::kFull}); }
  void pick(std::optional<Recompute>& value, const Range&) {
    value.reset();
    if (const std::int64_t level = below(5); level < 4) value = kRecomputeLevels[level];
  }
  void pick(MemoryLimit& value, const Range&) {
    using Kind = MemoryLimit::Kind;
    double share = 0.0;
    pick(share, {0, 1});
    const std::int64_t bytes = (1 + below(1 << 20)) << below(30);
    value = one_of({MemoryLimit{}, MemoryLimit{.kind = Kind::kFraction, .fraction = share},
                    MemoryLimit{.kind = Kind::kFraction, .fraction = 1.0},
                    MemoryLimit{.kind = Kind::kBytes, .bytes = static_cast<std::size_t>(bytes)}});
  }

  std::mt19937_64 random_;
};

TEST(DumpConfig, LoadsBackToTheSameConfig) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    const RunConfig config = Randomizer(seed).config();
    const std::string yaml = dump_config(config);
    expect_equal(parse_config(yaml, "dump", {}), config);
    if (HasFailure()) FAIL() << "seed " << seed << ":\n" << yaml;
  }
}

TEST(DumpConfig, WritesSectionsInTheOrderOfTheList) {
  const std::string yaml = dump_config(RunConfig{});
  EXPECT_TRUE(
      yaml.starts_with("out_dir: \"out\"\ninit_from: \"scratch\"\nseed: 1337\ndevice: auto\n"
                       "dtype: bfloat16\nmodel:\n  n_layer: 12\n"));
  EXPECT_TRUE(
      yaml.ends_with("  trace: \"\"\n  recompute: auto\n  logits: chunked\n"
                     "  logits_rows: 1024\n"));
  std::size_t at = 0;
  for (const FieldInfo& field : list_fields()) {
    at = yaml.find(field.name + ": ", at);
    ASSERT_NE(at, std::string::npos) << field.path();
  }
}

TEST(DumpConfig, UsesTheNamesOfTheProgram) {
  RunConfig config;
  for (const Recompute level : kRecomputeLevels) {
    config.memory.recompute = level;
    EXPECT_NE(dump_config(config).find(concat("recompute: ", name_of(level), '\n')),
              std::string::npos);
  }
  for (const Logits mode : {Logits::kChunked, Logits::kFull}) {
    config.memory.logits = mode;
    EXPECT_NE(dump_config(config).find(concat("logits: ", name_of(mode), '\n')), std::string::npos);
  }
}

TEST(ListFields, HasUniqueLeafNamesButForDevice) {
  std::vector<std::string> names;
  for (const FieldInfo& field : list_fields()) {
    EXPECT_FALSE(field.help.empty()) << field.path();
    EXPECT_EQ(field.help.find('\n'), std::string::npos) << field.path();
    if (field.path() != "memory.device") names.push_back(field.name);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(FieldsMarkdown, IsATableOfOneRowASetting) {
  const std::string table = fields_markdown();
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), std::ssize(list_fields()) + 2);
  EXPECT_NE(table.find("| `device` | `auto` | one of auto\\|cpu\\|cuda | where to run |\n"),
            std::string::npos);
}

TEST(Configs, AreWhatTheyAreNamedAfter) {
  const std::filesystem::path configs =
      std::filesystem::path(__FILE__).parent_path() / "../../configs";
  const RunConfig gpt2 = load_config(configs / "train_openwebtext.yaml", {});
  RunConfig expected;
  expected.training.log_interval = 10;
  expected.evaluation.eval_interval = 1000;
  expect_equal(gpt2, expected);

  const RunConfig tiny = load_config(configs / "train_shakespeare_char_cpu.yaml", {});
  EXPECT_EQ(tiny.model, (ModelConfig{4, 4, 128, 64, 65, false, 0.0, GeluForm::kErf}));
  EXPECT_EQ(tiny.dtype, DType::kFloat32);
  EXPECT_EQ(tiny.training.effective_batch(), 12);
  EXPECT_EQ(tiny.data.train, "data/shakespeare_char/train.bin");
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
