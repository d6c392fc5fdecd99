// Settings as people write them.
#include "gpt2train/config/load.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gpt2train/core/units.h"
#include "tests/support/config_text.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::expect_equal, test::flags, test::parse_yaml, test::same;

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
         logits: full, logits_rows: 15, moments: bfloat16, master_weights: false,
         offload: optimizer}
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
  EXPECT_EQ(c.memory.moments, Moments::kBFloat16);
  EXPECT_FALSE(c.memory.master_weights);
  EXPECT_EQ(c.memory.offload, Offload::kOptimizer);
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

TEST(LoadConfig, TakesACardAsTheDevice) {
  for (const RunConfig& c : {parse_yaml("", {"device=rtx3060"}), parse_yaml("device: rtx3060"),
                             parse_yaml("memory: {device: h100}", {"device=rtx3060"})}) {
    EXPECT_EQ(c.device, DeviceChoice::kCuda);
    EXPECT_EQ(c.memory.device, "rtx3060");
  }
  EXPECT_EQ(parse_yaml("", {"device=rtx3060", "memory.device=h100"}).memory.device, "h100");
}

TEST(LoadConfig, AcceptsShortNamesOfDtypes) {
  EXPECT_EQ(parse_yaml("dtype: fp32").dtype, DType::kFloat32);
  EXPECT_EQ(parse_yaml("dtype: bf16").dtype, DType::kBFloat16);
  EXPECT_EQ(parse_yaml("dtype: fp16").dtype, DType::kFloat16);
  EXPECT_EQ(parse_yaml("dtype: bfloat16").dtype, DType::kBFloat16);
  EXPECT_EQ(parse_yaml("dtype: float16").dtype, DType::kFloat16);
}

TEST(LoadConfig, TakesAttentionByCudnnWhereItCanTrain) {
  EXPECT_EQ(parse_yaml("attention: cudnn").attention, Attention::kCudnn);
  EXPECT_EQ(parse_yaml("attention: cudnn\ndtype: fp16").attention, Attention::kCudnn);
  EXPECT_EQ(parse_yaml("attention: auto\ndropout: 0.1").attention, Attention::kAuto);
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

TEST(LoadConfig, ReadsFilesWithWindowsLineEnds) {
  const test::TempDir dir;
  test::write_file(dir / "a.yaml", "seed: 5\r\nmodel:\r\n  n_layer: 2\r\n");
  const RunConfig c = load_config(dir / "a.yaml", flags({"n_head=6"}));
  EXPECT_EQ(c.seed, 5u);
  EXPECT_EQ(c.model.n_layer, 2);
  EXPECT_EQ(c.model.n_head, 6);
}

TEST(Configs, AreWhatTheyAreNamedAfter) {
  const std::filesystem::path configs = std::filesystem::path(GPT2TRAIN_SOURCE_DIR) / "configs";
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

}  // namespace
}  // namespace gpt2train
