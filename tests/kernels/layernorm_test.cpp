#include "kernels/layernorm.h"

#include <algorithm>
#include <cmath>

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

constexpr double kEpsilon = 1e-5;

class LayerNorm : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, LayerNorm, kFloatTypes, dtype_name);

struct Statistics {
  std::vector<double> mean, rstd;
};

Statistics statistics(const std::vector<double>& x, std::int64_t width) {
  Statistics s;
  for (auto row = x.begin(); row != x.end(); row += width) {
    double mean = 0.0, variance = 0.0;
    for (auto it = row; it != row + width; ++it) mean += *it / static_cast<double>(width);
    for (auto it = row; it != row + width; ++it) {
      variance += (*it - mean) * (*it - mean) / static_cast<double>(width);
    }
    s.mean.push_back(mean);
    s.rstd.push_back(1.0 / std::sqrt(variance + kEpsilon));
  }
  return s;
}

// `beta` may be empty.
std::vector<double> normalise(const std::vector<double>& x, const std::vector<double>& gamma,
                              const std::vector<double>& beta) {
  const std::size_t width = gamma.size();
  const Statistics s = statistics(x, std::ssize(gamma));
  std::vector<double> y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double x_hat = (x[i] - s.mean[i / width]) * s.rstd[i / width];
    y.push_back(x_hat * gamma[i % width] + (beta.empty() ? 0.0 : beta[i % width]));
  }
  return y;
}

// The tensors of a call, with inputs off centre as those of a trained network are.
struct Case {
  Case(DType dtype, std::int64_t rows, std::int64_t width)
      : in(dtype, {rows, width}, uniform(rows * width, 1, -3.0f, 5.0f)),
        branch(dtype, {rows, width}, uniform(rows * width, 2)),
        gamma(dtype, {width}, uniform(width, 3, 0.5f, 1.5f)),
        beta(dtype, {width}, uniform(width, 4)),
        out(dtype, {rows, width}),
        sum(dtype, {rows, width}),
        mean(DType::kFloat32, {rows}),
        rstd(DType::kFloat32, {rows}) {}

  LayerNormForward forward() const {
    return {.out = out, .mean = mean, .rstd = rstd, .in = in, .gamma = gamma, .beta = beta};
  }
  GuardedTensor in, branch, gamma, beta, out, sum, mean, rstd;
};

TEST_P(LayerNorm, ForwardMatchesTheFormula) {
  for (const std::int64_t width : kWidths) {
    for (const std::int64_t rows : kRowCounts) {
      const Case c(dtype(), rows, width);
      backend::layernorm_forward(c.forward(), {});
      const Statistics expected = statistics(c.in.values(), width);
      EXPECT_LE(nmse(normalise(c.in.values(), c.gamma.values(), c.beta.values()), c.out.values()),
                limit(1e-12, 1e-5))
          << rows << " x " << width;
      EXPECT_LE(nmse(expected.mean, c.mean.values()), 1e-12) << rows << " x " << width;
      EXPECT_LE(nmse(expected.rstd, c.rstd.values()), 1e-12) << rows << " x " << width;
    }
  }
}

TEST_P(LayerNorm, BiasMayBeAbsent) {
  const Case c(dtype(), 5, 257);
  LayerNormForward args = c.forward();
  args.beta = {};
  backend::layernorm_forward(args, {});
  EXPECT_LE(nmse(normalise(c.in.values(), c.gamma.values(), {}), c.out.values()),
            limit(1e-12, 1e-5));
}

TEST(LayerNormVariance, SurvivesALargeMean) {
  const std::int64_t width = 768;
  const GuardedTensor in(DType::kFloat32, {1, width}, uniform(width, 1, 999.0f, 1001.0f));
  const Case c(DType::kFloat32, 1, width);
  LayerNormForward args = c.forward();
  args.in = in;
  backend::layernorm_forward(args, {});
  EXPECT_LE(nmse(statistics(in.values(), width).rstd, c.rstd.values()), 1e-9);
}

TEST_P(LayerNorm, FusedResidualNormalisesTheRoundedSum) {
  for (const std::int64_t width : kWidths) {
    for (const float rate : {0.0f, 0.2f}) {
      const std::int64_t rows = 66, time = 11;
      const Case c(dtype(), rows, width);
      const Dropout dropout = {.rate = rate,
                               .seed = 5,
                               .first_sample = 30,
                               .layer = 2,
                               .use = RandomUse::kDropoutAttentionResidual};
      LayerNormForward args = c.forward();
      args.branch = c.branch;
      args.sum = c.sum;
      args.dropout = dropout;
      args.time = time;
      backend::layernorm_forward(args, {});

      std::vector<double> sum = c.in.values();
      const std::vector<double> branch = c.branch.values();
      for (std::size_t i = 0; i < sum.size(); ++i) {
        const std::int64_t at = static_cast<std::int64_t>(i);
        sum[i] += branch[i] * dropout_factor(dropout, at / width, at % width, time, width);
      }
      EXPECT_LE(nmse(sum, c.sum.values()), limit(1e-14, 1e-5)) << width;
      const auto expected = normalise(c.sum.values(), c.gamma.values(), c.beta.values());
      EXPECT_LE(nmse(expected, c.out.values()), limit(1e-12, 1e-5)) << width;

      for (const GuardedTensor* aliased : {&c.in, &c.branch}) {  // branch last: it ruins the inputs
        const Case fresh(dtype(), rows, width);
        LayerNormForward again = args;
        again.in = fresh.in;
        again.branch = fresh.branch;
        again.sum = aliased == &c.in ? fresh.in : fresh.branch;
        again.out = fresh.out;
        backend::layernorm_forward(again, {});
        EXPECT_EQ(fresh.out.values(), c.out.values());
      }
    }
  }
}

TEST_P(LayerNorm, RecomputationGivesTheSameBits) {
  for (const std::int64_t width : kWidths) {
    const Case c(dtype(), 67, width);
    backend::layernorm_forward(c.forward(), {});
    const std::vector<double> expected = c.out.values();
    backend::fill({.out = c.out, .value = 0.0f}, {});
    backend::layernorm_recompute({.out = c.out,
                                  .in = c.in,
                                  .mean = c.mean,
                                  .rstd = c.rstd,
                                  .gamma = c.gamma,
                                  .beta = c.beta},
                                 {});
    EXPECT_EQ(c.out.values(), expected) << width;
  }
}

struct Gradients {
  std::vector<double> in, gamma, beta;
};

// d_in, d_gamma and d_beta enter holding numbers, to be added to or overwritten.
Gradients initial_gradients(DType dtype, std::int64_t rows, std::int64_t width) {
  return {GuardedTensor(dtype, {rows, width}, uniform(rows * width, 11)).values(),
          GuardedTensor(DType::kFloat32, {width}, uniform(width, 12)).values(),
          GuardedTensor(DType::kFloat32, {width}, uniform(width, 13)).values()};
}

Gradients run_backward(const Case& c, const GuardedTensor& d_out, bool accumulate, bool overwrite,
                       bool with_beta = true) {
  const std::int64_t rows = c.in.view().rows(), width = c.in.view().width();
  const GuardedTensor d_in(c.in.view().dtype, {rows, width}, uniform(rows * width, 11));
  const GuardedTensor d_gamma(DType::kFloat32, {width}, uniform(width, 12));
  const GuardedTensor d_beta(DType::kFloat32, {width}, uniform(width, 13));
  backend::layernorm_forward(c.forward(), {});
  LayerNormBackward args = {.d_in = d_in,
                            .d_gamma = d_gamma,
                            .d_beta = with_beta ? d_beta.view() : TensorView{},
                            .d_out = d_out,
                            .in = c.in,
                            .mean = c.mean,
                            .rstd = c.rstd,
                            .gamma = c.gamma,
                            .accumulate = accumulate,
                            .overwrite_d_in = overwrite};
  GuardedBytes scratch(backend::layernorm_backward_workspace(args));
  args.workspace = scratch.workspace();
  backend::layernorm_backward(args, {});
  return {d_in.values(), d_gamma.values(), d_beta.values()};
}

Gradients reference_backward(const std::vector<double>& x, const std::vector<double>& gamma,
                             const std::vector<double>& d_out) {
  const std::size_t width = gamma.size();
  const Statistics s = statistics(x, std::ssize(gamma));
  Gradients out = {std::vector<double>(x.size()), std::vector<double>(width),
                   std::vector<double>(width)};
  for (std::size_t row = 0; row < s.mean.size(); ++row) {
    const auto x_hat = [&](std::size_t j) {
      return (x[row * width + j] - s.mean[row]) * s.rstd[row];
    };
    double mean_g = 0.0, mean_gx = 0.0;
    for (std::size_t j = 0; j < width; ++j) {
      const double d = d_out[row * width + j];
      out.gamma[j] += d * x_hat(j);
      out.beta[j] += d;
      mean_g += d * gamma[j] / static_cast<double>(width);
      mean_gx += d * gamma[j] * x_hat(j) / static_cast<double>(width);
    }
    for (std::size_t j = 0; j < width; ++j) {
      const double g = d_out[row * width + j] * gamma[j];
      out.in[row * width + j] = s.rstd[row] * (g - mean_g - x_hat(j) * mean_gx);
    }
  }
  return out;
}

std::vector<double> added(std::vector<double> a, const std::vector<double>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

TEST_P(LayerNorm, BackwardMatchesTheFormula) {
  for (const std::int64_t width : kWidths) {
    for (const std::int64_t rows : {std::int64_t{1}, kManyRows}) {
      for (const bool accumulate : {false, true}) {
        const Case c(dtype(), rows, width);
        const GuardedTensor d_out(dtype(), {rows, width}, uniform(rows * width, 5, -0.5f, 1.5f));
        Gradients expected = reference_backward(c.in.values(), c.gamma.values(), d_out.values());
        const Gradients before = initial_gradients(dtype(), rows, width);
        if (accumulate) expected.gamma = added(expected.gamma, before.gamma);
        if (accumulate) expected.beta = added(expected.beta, before.beta);

        // A row of one has no gradient, only a rounding error times 1 / sqrt(epsilon).
        const double d_in_limit = width == 1 ? 1e-7 : limit(1e-12, 1e-5);
        const Gradients overwritten = run_backward(c, d_out, accumulate, true);
        EXPECT_LE(nmse(expected.in, overwritten.in), d_in_limit) << rows << " x " << width;
        EXPECT_LE(nmse(expected.gamma, overwritten.gamma), 1e-11) << rows << " x " << width;
        EXPECT_LE(nmse(expected.beta, overwritten.beta), 1e-11) << rows << " x " << width;

        const Gradients summed = run_backward(c, d_out, accumulate, false);
        EXPECT_LE(nmse(added(expected.in, before.in), summed.in),
                  std::max(d_in_limit, limit(1e-12, 1e-5)))
            << rows << " x " << width;
        EXPECT_EQ(summed.gamma, overwritten.gamma);
      }
    }
  }
}

TEST(LayerNormBackwardPass, MatchesFiniteDifferences) {
  const std::int64_t rows = 2, width = 9;
  const Case c(DType::kFloat32, rows, width);
  const GuardedTensor d_out(DType::kFloat32, {rows, width}, uniform(rows * width, 5));
  const std::vector<double> weights = d_out.values();
  std::vector<double> x = c.in.values(), gamma = c.gamma.values(), beta = c.beta.values();
  const auto slopes = [&](std::vector<double>& parameter) {
    std::vector<double> out;
    for (double& value : parameter) {
      const double h = 1e-5, middle = value;
      const auto loss_at = [&](double moved) {
        value = moved;
        const std::vector<double> y = normalise(x, gamma, beta);
        double loss = 0.0;
        for (std::size_t i = 0; i < y.size(); ++i) loss += weights[i] * y[i];
        return loss;
      };
      const double rise = loss_at(middle + h) - loss_at(middle - h);
      value = middle;
      out.push_back(rise / (2.0 * h));
    }
    return out;
  };
  const Gradients actual = run_backward(c, d_out, false, true);
  EXPECT_LE(nmse(slopes(x), actual.in), 1e-11);
  EXPECT_LE(nmse(slopes(gamma), actual.gamma), 1e-11);
  EXPECT_LE(nmse(slopes(beta), actual.beta), 1e-11);
}

TEST_P(LayerNorm, BackwardWithoutBiasLeavesTheRestAlone) {
  const Case c(dtype(), 67, 257);
  const GuardedTensor d_out(dtype(), {67, 257}, uniform(67 * 257, 5));
  const Gradients with = run_backward(c, d_out, false, false);
  const Gradients without = run_backward(c, d_out, false, false, false);
  EXPECT_EQ(without.in, with.in);
  EXPECT_EQ(without.gamma, with.gamma);
  EXPECT_EQ(without.beta, initial_gradients(dtype(), 67, 257).beta);
}

TEST_P(LayerNorm, DoesNotDependOnTheSchedule) {
  const std::int64_t rows = kManyRows, width = 257;
  const Case c(dtype(), rows, width);
  const GuardedTensor d_out(dtype(), {rows, width}, uniform(rows * width, 5));
  expect_same_bits_in_any_schedule([&] {
    Gradients g = run_backward(c, d_out, true, false);
    std::vector<double> all = c.out.values();
    for (const auto* part : {&g.in, &g.gamma, &g.beta}) {
      all.insert(all.end(), part->begin(), part->end());
    }
    return all;
  });
}

}  // namespace
}  // namespace gpt2train::test
