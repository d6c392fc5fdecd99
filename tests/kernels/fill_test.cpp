#include "kernels/cpu/cpu_kernels.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

class FillAndCast : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, FillAndCast, kFloatTypes, dtype_name);

TEST_P(FillAndCast, FillWritesEveryElement) {
  for (const std::int64_t count : {1, 31, 257, 100'003}) {
    const GuardedTensor out(dtype(), {count});
    cpu::fill({.out = out, .value = -1.5f}, {});
    EXPECT_EQ(out.values(), std::vector<double>(static_cast<std::size_t>(count), -1.5)) << count;
  }
}

TEST_P(FillAndCast, CastRoundsToTheOutputType) {
  for (const DType to : {DType::kFloat32, DType::kBFloat16}) {
    for (const std::int64_t count : {1, 31, 257, 100'003}) {
      const std::vector<float> values = uniform(count, 1);
      const GuardedTensor in(dtype(), {count}, values), out(to, {count});
      cpu::cast({.out = out, .in = in}, {});
      // Rounding to bf16 twice is rounding once, so the narrower of the two types decides.
      const GuardedTensor expected(dtype() == DType::kBFloat16 ? dtype() : to, {count}, values);
      EXPECT_EQ(out.values(), expected.values()) << name_of(to) << ' ' << count;
    }
  }
}

}  // namespace
}  // namespace gpt2train::test
