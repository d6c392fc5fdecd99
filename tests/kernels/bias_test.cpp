#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

class BiasGradient : public FloatKernelTest {
 protected:
  std::vector<double> run(std::int64_t rows, std::int64_t width, bool accumulate) {
    const GuardedTensor d_out(dtype(), {rows, width}, uniform(rows * width, 1, -0.5f, 1.5f));
    const GuardedTensor d_bias(DType::kFloat32, {width}, uniform(width, 2));
    expected_ = accumulate ? d_bias.values() : std::vector<double>(static_cast<std::size_t>(width));
    const std::vector<double> d = d_out.values();
    for (std::size_t i = 0; i < d.size(); ++i) expected_[i % expected_.size()] += d[i];

    BiasBackward args = {.d_bias = d_bias, .d_out = d_out, .accumulate = accumulate};
    GuardedBytes scratch(backend::bias_backward_workspace(args));
    args.workspace = scratch.workspace();
    backend::bias_backward(args, {});
    return d_bias.values();
  }
  std::vector<double> expected_;
};
INSTANTIATE_TEST_SUITE_P(Cpu, BiasGradient, kFloatTypes, dtype_name);

TEST_P(BiasGradient, SumsTheRows) {
  for (const std::int64_t width : kWidths) {
    for (const std::int64_t rows : {1, 15, 67, 1'001}) {
      for (const bool accumulate : {false, true}) {
        const std::vector<double> actual = run(rows, width, accumulate);
        EXPECT_LE(nmse(expected_, actual), 1e-12) << rows << " x " << width;
      }
    }
  }
}

TEST_P(BiasGradient, DoesNotDependOnTheSchedule) {
  expect_same_bits_in_any_schedule([&] { return run(301, 768, true); });
}

}  // namespace
}  // namespace gpt2train::test
