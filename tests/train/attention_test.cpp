// Whose attention a run gets, and what a prediction counts for cuDNN's.
#include "gpt2train/train/attention.h"

#include <gtest/gtest.h>

#include "gpt2train/train/plan.h"
#include "tests/support/tiny_run.h"

namespace gpt2train {
namespace {

// Attention's gradients need more than anything else in a step.
RunConfig long_config() {
  RunConfig config = test::tiny_config();
  config.dtype = DType::kBFloat16;
  config.model.n_head = 4;
  config.model.n_embd = 32;
  config.model.block_size = 1000;
  config.training.batch_size = 8;
  config.attention = Attention::kCudnn;
  return config;
}

// A device that has cuDNN.
class WithCudnn final : public Backend {
 public:
  const KernelTable& kernels() const override { return cuda_scratch(); }
  const KernelTable& kernels_with_cudnn(const AttentionShape& shape) const override {
    asked = shape;
    return cuda_scratch_with_cudnn();
  }
  Upstream& upstream() override { return upstream_; }
  Stream stream() const override { return {}; }
  bool computes(DType) const override { return true; }
  std::unique_ptr<Stopwatch> stopwatch() const override { return nullptr; }
  DeviceInfo info() const override { return {}; }

  mutable AttentionShape asked;

 private:
  DryRunUpstream upstream_;
};

const KernelTable* chosen(Attention attention, const Backend& backend, RunConfig config) {
  config.attention = attention;
  return &kernels_for(config, backend);
}

TEST(KernelsFor, AreCudnnsWhereTheyAreAskedForAndThere) {
  const WithCudnn gpu;
  const RunConfig config = long_config();
  EXPECT_EQ(chosen(Attention::kNative, gpu, config), &cuda_scratch());
  EXPECT_EQ(chosen(Attention::kCudnn, gpu, config), &cuda_scratch_with_cudnn());
  EXPECT_EQ(chosen(Attention::kAuto, gpu, config), &cuda_scratch_with_cudnn());
  EXPECT_EQ(gpu.asked, (AttentionShape{8, 4, 1000, 8, DType::kBFloat16}));
}

TEST(KernelsFor, AutoIsNativeWhereCudnnCannotTrain) {
  const WithCudnn gpu;
  RunConfig config = long_config();
  config.model.dropout = 0.1;
  EXPECT_EQ(chosen(Attention::kAuto, gpu, config), &cuda_scratch());
  config.attention = Attention::kAuto;
  EXPECT_EQ(&cuda_scratch_for(config), &cuda_scratch());
}

TEST(KernelsFor, RefuseCudnnInWordsOnACpu) {
  const auto cpu = open_cpu_backend();
  EXPECT_EQ(chosen(Attention::kAuto, *cpu, long_config()), &cpu_kernels());
  try {
    static_cast<void>(chosen(Attention::kCudnn, *cpu, long_config()));
    FAIL() << "a CPU has cuDNN";
  } catch (const DeviceError& error) {
    EXPECT_STREQ(error.what(), "attention by cuDNN needs a CUDA device");
  }
}

std::size_t predicted_peak(const KernelTable& kernels) {
  const RunConfig config = long_config();
  return predict(kernels, config, configured_plan(config), CachingAllocator::kNoBudget)
      .stats.peak_allocated_bytes;
}

// 32 heads of 1000 x 1000 scores in 16 bits, padded to 1024; an fp32 a row; and 4 KiB.
TEST(CudnnScratch, IsCountedToTheByte) {
  KernelTable other = cuda_scratch();
  other.attention_backward_workspace = [](const AttentionBackward&) {
    return std::size_t{48} << 20;
  };
  const RunConfig config = long_config();
  const std::size_t bound = 32 * 1024 * 1024 * 2 + 32 * 1000 * 4 + 4096;
  EXPECT_EQ(predicted_peak(cuda_scratch_for(config)) - predicted_peak(other),
            bound - (std::size_t{48} << 20));
  EXPECT_GT(predicted_peak(other), predicted_peak(cuda_scratch())) << "it does not decide the peak";
}

TEST(CudnnScratch, GrowsWithTheSquareOfTheLength) {
  const auto bytes = [](std::int64_t batch, std::int64_t time) {
    const Shape lse = {batch, 4, time}, qkv = {batch, time, 96};
    return cuda_scratch_with_cudnn().attention_backward_workspace(
        {.lse = {nullptr, DType::kFloat32, lse},
         .qkv = {nullptr, DType::kBFloat16, qkv},
         .heads = 4});
  };
  EXPECT_EQ(bytes(1, 128), 4 * (128 * 128 * 2 + 128 * 4) + 4096);
  EXPECT_EQ(bytes(2, 256), 8 * (256 * 256 * 2 + 256 * 4) + 4096);
  EXPECT_EQ(bytes(1, 129), 4 * 256 * 256 * 2 + 2304 + 4096);  // 2,064 bytes of rows
}

}  // namespace
}  // namespace gpt2train
