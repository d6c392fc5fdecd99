// What nanoGPT needs, against figures that were observed, and sums by hand for GPT-2 124M.
#include "gpt2train/nanogpt/nanogpt.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

constexpr TorchSegments kBothSegments[] = {TorchSegments::kClassic, TorchSegments::kExpandable};
constexpr std::size_t kNoLimit = std::size_t{1} << 50;

std::size_t gib(double value) {
  return static_cast<std::size_t>(value * static_cast<double>(kGiB));
}

// As PyTorch's messages have it.
std::string in_gib(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", static_cast<double>(bytes) / static_cast<double>(kGiB));
  return text;
}

NanogptRun gpt2_124m(NanogptForm form, std::int64_t batch_size) {
  return {.batch_size = batch_size, .form = form};
}

std::size_t count(std::int64_t value) {
  return static_cast<std::size_t>(value);
}

// An RTX 3060 of which other processes hold what is neither free nor this process's, and this
// process 224.90 MiB that are not PyTorch's: capacity 11.69 GiB, 2.68 free, 7.04 in the process.
const std::size_t kObservedCard = gib(11.69) - gib(11.69 - 2.68 - 7.04) - gib(224.90 / 1024);

// The message: "Tried to allocate 6.14 GiB ... 6.78 GiB is allocated by PyTorch", in estimate_loss,
// with torch.compile.
TEST(Nanogpt, DiesOfTheSecondBatchsLogitsAsObserved) {
  const NanogptRun run = gpt2_124m(NanogptForm::kCompiled, 64);
  const std::size_t rows = 64 * 1024, C = 768, V = 50304;
  const std::size_t logits = rows * V * 2;
  // Weights; the head's 16-bit copy and the rows it is multiplied with; tokens and targets of the
  // evaluation and of the training loop; and the logits of the first batch.
  const std::size_t live = 4 * count(parameter_count(run.model)) + 2 * V * C + 2 * rows * C +
                           4 * 8 * rows + kCublasWorkspaceBytes + logits;
  for (const TorchSegments segments : kBothSegments) {
    const NanogptMemory memory = simulate_nanogpt(run, kObservedCard, segments);
    ASSERT_TRUE(memory.failure);
    EXPECT_EQ(memory.failure->tensor, "logits");
    EXPECT_EQ(memory.failure->shape, "(65536, 50304)");
    EXPECT_EQ(memory.failure->dtype, "bf16");
    EXPECT_EQ(memory.failure->phase, NanogptPhase::kEvaluation);
    EXPECT_EQ(memory.failure->requested_bytes, logits);
    EXPECT_EQ(in_gib(memory.failure->requested_bytes), "6.14");
    EXPECT_EQ(in_gib(memory.failure->live_bytes), "6.78");
    EXPECT_GE(memory.failure->live_bytes, live);
    EXPECT_LT(memory.failure->live_bytes, live + live / 500);  // rounding
  }
}

// 16 x 1024 ran out of memory on a whole 12 GB card; 8 x 1024 is said to fit, 4 x 1024 to be safe.
TEST(Nanogpt, FailsAndFitsOnA12GbCardAsObserved) {
  for (const TorchSegments segments : kBothSegments) {
    const auto fits = [&](std::int64_t batch_size) {
      const NanogptRun run = gpt2_124m(NanogptForm::kCompiled, batch_size);
      return !simulate_nanogpt(run, gib(11.69), segments).failure;
    };
    EXPECT_FALSE(fits(16));
    EXPECT_TRUE(fits(8));
    EXPECT_TRUE(fits(4));
  }
}

// 6 layers, 384 wide, 16 x 512, float16, compiled: 4,464 MiB in the process, of which the CUDA
// context and libraries are some hundred, 0.5 GB at most.
TEST(Nanogpt, ReservesWhatWasObservedOfASmallerModelLessTheContext) {
  const NanogptRun run = {
      .model = {.n_layer = 6, .n_head = 6, .n_embd = 384, .block_size = 512},
      .batch_size = 16,
      .gradient_accumulation_steps = 4,
      .dtype = DType::kFloat16,
      .form = NanogptForm::kCompiled,
  };
  const NanogptMemory memory = simulate_nanogpt(run, 12'282 * kMiB, TorchSegments::kClassic);
  EXPECT_FALSE(memory.failure);
  EXPECT_LT(memory.stats.peak_reserved_bytes, 4464 * kMiB);
  EXPECT_GT(memory.stats.peak_reserved_bytes, 4464 * kMiB - 500'000'000);
}

// With attention fused, a token keeps: of each block the two inputs of its norms (fp32) and
// their statistics, both norms' outputs, queries, keys and values, attention's output, MLP's hidden
// values before and after GELU; then the last norm's; and at the peak of the loss logits (2 bytes),
// log-probabilities and two gradients (4 each); its token, and the next batch's token and target.
TEST(Nanogpt, EagerPeakIsTheSumByHand) {
  const std::size_t L = 12, C = 768, H = 12, T = 1024, V = 50304;
  const std::size_t block =
      2 * (4 * C + 4 + 4) + 2 * 2 * C + 3 * 2 * C + 2 * C + 2 * 2 * 4 * C + 4 * H;
  const std::size_t token = L * block + 4 * C + 4 + 4 + 2 * C + (2 + 4 + 4 + 4) * V + 3 * 8;
  EXPECT_EQ(token * T, 1'066'434'560u);

  const auto peak = [&](std::int64_t batch_size) {
    NanogptRun run = gpt2_124m(NanogptForm::kEager, batch_size);
    run.cublas_workspace_bytes = 0;
    return simulate_nanogpt(run, kNoLimit, TorchSegments::kClassic).stats.peak_requested_bytes;
  };
  EXPECT_EQ(peak(6) - peak(5), token * T);
  // Weights, gradients and two moments in fp32, 16-bit copies of matrices, positions.
  const std::size_t matrices = L * 12 * C * C + V * C;
  const std::size_t constant = 16 * count(parameter_count({})) + 2 * matrices + 8 * T;
  EXPECT_GE(peak(1), constant + token * T);
  EXPECT_LT(peak(1), constant + token * T + 2 * kKiB);  // scalars
}

TEST(Nanogpt, CompiledForwardKeepsTheSumByHand) {
  const std::size_t L = 12, C = 768, H = 12, T = 1024, V = 50304;
  const std::size_t block = 2 * (4 * C + 4) + 2 * 2 * C + 3 * 2 * C + 2 * C + 2 * 2 * 4 * C + 4 * H;
  const std::size_t token = L * block + 4 * C + 4 + 2 * C + 2 * V + 4 + 4;
  const auto keeps = [&](std::int64_t batch_size) {
    return simulate_nanogpt(gpt2_124m(NanogptForm::kCompiled, batch_size), kNoLimit,
                            TorchSegments::kClassic)
        .forward_keeps_bytes;
  };
  EXPECT_EQ(keeps(3) - keeps(2), token * T);
}

// Logits of training stay alive while evaluation makes its own, of which it has two.
TEST(Nanogpt, LaterEvaluationsHoldThreeSetsOfLogits) {
  NanogptRun run = gpt2_124m(NanogptForm::kCompiled, 16);
  run.model.n_layer = 1;
  const NanogptMemory memory = simulate_nanogpt(run, kNoLimit, TorchSegments::kExpandable);
  const std::size_t logits = 16 * 1024 * 50304 * 2;
  const std::size_t states = 12 * count(parameter_count(run.model));
  const std::size_t peak = memory.peak_by_phase[static_cast<int>(NanogptPhase::kEvaluation)];
  EXPECT_GT(peak, states + 3 * logits);
  EXPECT_LT(peak, states + 3 * logits + logits / 4);
}

TEST(Nanogpt, Float32IsWithoutCopiesAndFloat16IsAsLargeAsBfloat16) {
  const auto peak = [](DType dtype) {
    NanogptRun run = gpt2_124m(NanogptForm::kEager, 2);
    run.dtype = dtype;
    run.cublas_workspace_bytes = 0;
    return simulate_nanogpt(run, kNoLimit, TorchSegments::kClassic).stats.peak_requested_bytes;
  };
  EXPECT_EQ(peak(DType::kFloat16), peak(DType::kBFloat16));
  const std::size_t L = 12, C = 768, H = 12, V = 50304, rows = 2048;
  const std::size_t block = 2 * (4 * C + 8) + 2 * 4 * C + 3 * 4 * C + 4 * C + 2 * 4 * 4 * C + 4 * H;
  const std::size_t token = L * block + 4 * C + 8 + 4 * C + 4 * 4 * V + 3 * 8;
  const std::size_t constant = 16 * count(parameter_count({})) + 8 * 1024;
  EXPECT_GE(peak(DType::kFloat32), constant + token * rows);
  EXPECT_LT(peak(DType::kFloat32), constant + token * rows + 2 * kKiB);
}

TEST(Nanogpt, TheLargestBatchFitsAndTheNextDoesNot) {
  for (const NanogptForm form : {NanogptForm::kEager, NanogptForm::kCompiled}) {
    std::int64_t classic = 0;
    for (const TorchSegments segments : kBothSegments) {
      const std::int64_t largest =
          largest_nanogpt_batch(gpt2_124m(form, 1), kObservedCard, segments);
      EXPECT_FALSE(simulate_nanogpt(gpt2_124m(form, largest), kObservedCard, segments).failure);
      EXPECT_TRUE(simulate_nanogpt(gpt2_124m(form, largest + 1), kObservedCard, segments).failure);
      EXPECT_GE(largest, classic);
      classic = largest;
    }
  }
  EXPECT_EQ(largest_nanogpt_batch(gpt2_124m(NanogptForm::kEager, 1), kMiB, TorchSegments::kClassic),
            0);
}

}  // namespace
}  // namespace gpt2train
