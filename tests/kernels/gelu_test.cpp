#include "kernels/gelu.h"

#include <cmath>
#include <numbers>

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

class Gelu : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Gelu, kFloatTypes, dtype_name);

constexpr GeluForm kForms[] = {GeluForm::kErf, GeluForm::kTanh};

double gelu(double x, GeluForm form) {
  if (form == GeluForm::kErf) return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
  const double u = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-2.0 * u));
}

double slope(double x, GeluForm form) {
  const double h = 1e-4;  // the error is h^2 / 6 of a third derivative near 1
  return (gelu(x + h, form) - gelu(x - h, form)) / (2.0 * h);
}

TEST_P(Gelu, ForwardMatchesTheFormula) {
  for (const GeluForm form : kForms) {
    for (const std::int64_t count : {1, 31, 257, 768, 40'003}) {
      const GuardedTensor in(dtype(), {count}, uniform(count, 1, -6.0f, 6.0f));
      const GuardedTensor out(dtype(), {count});
      backend::gelu_forward({.out = out, .in = in, .form = form}, {});
      std::vector<double> expected;
      for (const double x : in.values()) expected.push_back(gelu(x, form));
      EXPECT_LE(nmse(expected, out.values()), limit(2e-13, 1e-5)) << count;
    }
  }
}

TEST_P(Gelu, BackwardMatchesFiniteDifferences) {
  for (const GeluForm form : kForms) {
    for (const std::int64_t count : {1, 31, 257, 768, 40'003}) {
      const GuardedTensor in(dtype(), {count}, uniform(count, 1, -6.0f, 6.0f));
      const GuardedTensor d_out(dtype(), {count}, uniform(count, 2));
      const GuardedTensor d_in(dtype(), {count});
      backend::gelu_backward({.d_in = d_in, .d_out = d_out, .in = in, .form = form}, {});
      const std::vector<double> x = in.values(), d = d_out.values();
      std::vector<double> expected;
      for (std::size_t i = 0; i < x.size(); ++i) expected.push_back(d[i] * slope(x[i], form));
      EXPECT_LE(nmse(expected, d_in.values()), limit(1e-13, 1e-5)) << count;
    }
  }
}

TEST_P(Gelu, WorksInPlace) {
  const std::int64_t count = 1'000;
  const std::vector<float> x = uniform(count, 1, -4.0f, 4.0f), d = uniform(count, 2);
  const GuardedTensor in(dtype(), {count}, x), d_out(dtype(), {count}, d), y(dtype(), {count}),
      d_in(dtype(), {count});
  backend::gelu_forward({.out = y, .in = in}, {});
  backend::gelu_backward({.d_in = d_in, .d_out = d_out, .in = in}, {});
  backend::gelu_backward({.d_in = d_out, .d_out = d_out, .in = in}, {});
  backend::gelu_forward({.out = in, .in = in}, {});
  EXPECT_EQ(in.values(), y.values());
  EXPECT_EQ(d_out.values(), d_in.values());
}

TEST(GeluTails, KeepTheirRelativeAccuracy) {
  std::vector<float> x;
  for (float value = -9.0f; value < 9.0f; value += 0.0137f) x.push_back(value);
  const Shape shape = {std::ssize(x)};
  for (const GeluForm form : kForms) {
    const GuardedTensor in(DType::kFloat32, shape, x), out(DType::kFloat32, shape);
    backend::gelu_forward({.out = out, .in = in, .form = form}, {});
    const std::vector<double> y = out.values();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double expected = gelu(double{x[i]}, form);
      if (std::abs(expected) < 1e-37) continue;  // subnormal: no relative accuracy to keep
      // Rounding the exponent, near x^2 / 2, is what costs in the tail.
      EXPECT_LE(std::abs(y[i] / expected - 1.0), x[i] < -3.0f ? 2e-5 : 1e-6) << x[i];
    }
  }
}

TEST(GeluTails, AreFiniteForHugeInputs) {
  for (const GeluForm form : kForms) {
    const std::vector<float> x = {-3e38f, -1e20f, -1e4f, -50.0f, 50.0f, 1e4f, 1e20f, 3e38f};
    const GuardedTensor in(DType::kFloat32, {8}, x), out(DType::kFloat32, {8});
    const GuardedTensor ones(DType::kFloat32, {8}, std::vector<float>(8, 1.0f));
    const GuardedTensor d_in(DType::kFloat32, {8});
    backend::gelu_forward({.out = out, .in = in, .form = form}, {});
    backend::gelu_backward({.d_in = d_in, .d_out = ones, .in = in, .form = form}, {});
    for (std::size_t i = 0; i < 8; ++i) {
      EXPECT_EQ(out.values()[i], i < 4 ? 0.0 : double{x[i]}) << x[i];
      EXPECT_EQ(d_in.values()[i], i < 4 ? 0.0 : 1.0) << x[i];
    }
  }
}

}  // namespace
}  // namespace gpt2train::test
