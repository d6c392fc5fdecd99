#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

class FillAndCast : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, FillAndCast, kFloatTypes, dtype_name);

TEST_P(FillAndCast, FillWritesEveryElement) {
  for (const std::int64_t count : {1, 31, 257, 100'003}) {
    const GuardedTensor out(dtype(), {count});
    backend::fill({.out = out, .value = -1.5f}, {});
    EXPECT_EQ(out.values(), std::vector<double>(static_cast<std::size_t>(count), -1.5)) << count;
  }
}

TEST_P(FillAndCast, CastRoundsToTheOutputType) {
  for (const DType to : {DType::kFloat32, DType::kBFloat16}) {
    for (const std::int64_t count : {1, 31, 257, 100'003}) {
      const GuardedTensor in(dtype(), {count}, uniform(count, 1)), out(to, {count});
      backend::cast({.out = out, .in = in}, {});
      const std::vector<double> stored = in.values();
      const GuardedTensor expected(to, {count}, {stored.begin(), stored.end()});
      EXPECT_EQ(out.values(), expected.values()) << name_of(to) << ' ' << count;
    }
  }
}

}  // namespace
}  // namespace gpt2train::test
