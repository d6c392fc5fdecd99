// The list of settings written out: as YAML that loads back, and as the README's table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "tests/support/config_text.h"

namespace gpt2train {
namespace {

using test::expect_equal;

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
    c.memory.master_weights |= c.dtype == DType::kFloat16;
    c.memory.tune &= c.memory.plan == PlanMode::kAuto;
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
  // cudnn is refused beside some of the others.
  void pick(Attention& value, const Range&) {
    value = one_of({Attention::kNative, Attention::kAuto});
  }
  void pick(GeluForm& value, const Range&) { value = one_of({GeluForm::kErf, GeluForm::kTanh}); }
  void pick(TokenFormat& value, const Range&) {
    value = one_of(
        {TokenFormat::kAuto, TokenFormat::kNanoGpt, TokenFormat::kLlmc, TokenFormat::kBytes});
  }
  void pick(PlanMode& value, const Range&) { value = one_of({PlanMode::kAuto, PlanMode::kOff}); }
  void pick(Logits& value, const Range&) { value = one_of({Logits::kChunked, Logits::kFull}); }
  void pick(Offload& value, const Range&) {
    value = one_of({Offload::kNone, Offload::kMoments, Offload::kOptimizer});
  }
  void pick(Moments& value, const Range&) {
    value = one_of({Moments::kFloat32, Moments::kBFloat16, Moments::kInt8});
  }
  void pick(Segments& value, const Range&) {
    value = one_of({Segments::kFixed, Segments::kExpandable});
  }
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
                       "dtype: bfloat16\ntf32: false\ntune_matmul: true\n"
                       "cuda_graphs: true\nattention: native\nmodel:\n  n_layer: 12\n"));
  EXPECT_TRUE(yaml.ends_with(
      "  trace: \"\"\n  recompute: auto\n  recompute_layers: 0\n"
      "  logits: chunked\n  logits_rows: 1024\n  moments: float32\n  master_weights: true\n"
      "  offload: none\n"));
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
  EXPECT_NE(
      table.find("| `tf32` | `false` | one of true\\|false | float32 matrix products on a GPU: "
                 "faster, with factors of 11 bits |\n"),
      std::string::npos);
}

}  // namespace
}  // namespace gpt2train
