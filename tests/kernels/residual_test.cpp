#include "kernels/residual.h"

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

class Residual : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Residual, kFloatTypes, dtype_name);

Dropout dropout(float rate) {
  return {.rate = rate,
          .seed = 42,
          .first_sample = 1'000,
          .layer = 3,
          .use = RandomUse::kDropoutMlpResidual};
}

// in + dropout(branch) in double; `in` may be empty.
std::vector<double> reference(const std::vector<double>& in, const std::vector<double>& branch,
                              float rate, std::int64_t time, std::int64_t width) {
  std::vector<double> out;
  for (std::size_t i = 0; i < branch.size(); ++i) {
    const std::int64_t row = static_cast<std::int64_t>(i) / width;
    const std::int64_t column = static_cast<std::int64_t>(i) % width;
    const double factor = dropout_factor(dropout(rate), row, column, time, width);
    out.push_back((in.empty() ? 0.0 : in[i]) + factor * branch[i]);
  }
  return out;
}

TEST_P(Residual, AddsTheDroppedBranch) {
  for (const std::int64_t width : kWidths) {
    for (const auto& [rows, time] : {std::pair{1, 1}, {12, 12}, {66, 11}}) {
      for (const float rate : {0.0f, 0.25f}) {
        const GuardedTensor in(dtype(), {rows, width}, uniform(rows * width, 1));
        const GuardedTensor branch(dtype(), {rows, width}, uniform(rows * width, 2));
        const GuardedTensor out(dtype(), {rows, width});
        backend::residual_forward(
            {.out = out, .in = in, .branch = branch, .dropout = dropout(rate), .time = time}, {});
        const auto expected = reference(in.values(), branch.values(), rate, time, width);
        EXPECT_LE(nmse(expected, out.values()), limit(1e-14, 1e-5)) << rows << " x " << width;
      }
    }
  }
}

TEST_P(Residual, BackwardAppliesTheSameMask) {
  for (const std::int64_t width : kWidths) {
    const std::int64_t rows = 66, time = 11;
    const GuardedTensor in(dtype(), {rows, width}, uniform(rows * width, 1));
    const GuardedTensor out(dtype(), {rows, width});
    const DropoutBackward args = {.out = out, .in = in, .dropout = dropout(0.4f), .time = time};
    backend::dropout_backward(args, {});
    const auto expected = reference({}, in.values(), 0.4f, time, width);
    EXPECT_LE(nmse(expected, out.values()), limit(1e-14, 1e-5)) << width;
  }
}

TEST_P(Residual, OutputMayBeEitherInput) {
  const std::int64_t rows = 8, width = 257;
  const auto make = [&](std::uint64_t seed) { return uniform(rows * width, seed); };
  const GuardedTensor in(dtype(), {rows, width}, make(1)), branch(dtype(), {rows, width}, make(2)),
      out(dtype(), {rows, width});
  const auto add = [&](const GuardedTensor& to, const GuardedTensor& a, const GuardedTensor& b) {
    backend::residual_forward(
        {.out = to, .in = a, .branch = b, .dropout = dropout(0.5f), .time = 4}, {});
  };
  add(out, in, branch);
  const GuardedTensor in_copy(dtype(), {rows, width}, make(1));
  add(in_copy, in_copy, branch);
  EXPECT_EQ(in_copy.values(), out.values());
  add(branch, in, branch);
  EXPECT_EQ(branch.values(), out.values());
}

TEST_P(Residual, DoesNotDependOnTheSchedule) {
  const std::int64_t rows = 60, width = 768;
  const GuardedTensor in(dtype(), {rows, width}, uniform(rows * width, 1));
  expect_same_bits_in_any_schedule([&] {
    const GuardedTensor out(dtype(), {rows, width});
    backend::residual_forward(
        {.out = out, .in = in, .branch = in, .dropout = dropout(0.5f), .time = 20}, {});
    return out.values();
  });
}

}  // namespace
}  // namespace gpt2train::test
