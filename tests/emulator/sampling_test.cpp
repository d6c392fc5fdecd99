// Sampling with a cache on the whole CUDA backend, without a GPU.
#include "tests/support/sampling_case.h"

extern "C" gpt2train::Backend* gpt2train_make_cuda_backend();

namespace gpt2train::test {
namespace {

std::unique_ptr<Backend> emulated_device() {
  return std::unique_ptr<Backend>(gpt2train_make_cuda_backend());
}

TEST(EmulatedSampling, ChangesNoTokenByItsCacheAndLogitsByRoundingAlone) {
  RunConfig config = sampling_config(DType::kFloat32);
  config.model.block_size = 9;
  expect_cache_changes_nothing(config, emulated_device, 1e-6);
}

TEST(EmulatedSampling, TakesTheMemoryThatWasPredicted) {
  RunConfig config = sampling_config(DType::kBFloat16);
  config.model.block_size = 9;
  expect_memory_as_predicted(config, emulated_device);
}

TEST(EmulatedSampling, WritesWhatTheCpuWrites) {
  const RunConfig config = sampling_config(DType::kFloat32);
  const SamplingTask task{.prompt = {1, 5, 3}, .num_samples = 2, .max_new_tokens = 12};
  const Texts cpu = sample(config, task, 2, open_cpu_backend());
  const Texts cuda = sample(config, task, 2, emulated_device());
  EXPECT_EQ(cuda.tokens, cpu.tokens);
  EXPECT_LE(largest_deviation(cpu, cuda), 1e-6);
}

}  // namespace
}  // namespace gpt2train::test
