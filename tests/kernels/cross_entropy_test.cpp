#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

constexpr float kScale = 0.125f;

class CrossEntropyRows : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, CrossEntropyRows, kFloatTypes, dtype_name);

struct Expected {
  std::vector<double> losses, gradient;
};

Expected reference(const std::vector<double>& logits, const std::vector<std::int32_t>& targets,
                   std::size_t vocab) {
  const std::size_t width = logits.size() / targets.size();
  Expected expected = {std::vector<double>(targets.size()), std::vector<double>(logits.size())};
  for (std::size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] < 0) continue;
    const double* x = logits.data() + row * width;
    const double max = *std::max_element(x, x + vocab);
    double sum = 0.0;
    for (std::size_t j = 0; j < vocab; ++j) sum += std::exp(x[j] - max);
    expected.losses[row] = std::log(sum) + max - x[targets[row]];
    for (std::size_t j = 0; j < vocab; ++j) {
      const double one_hot = static_cast<std::int32_t>(j) == targets[row] ? 1.0 : 0.0;
      expected.gradient[row * width + j] = double{kScale} * (std::exp(x[j] - max) / sum - one_hot);
    }
  }
  return expected;
}

// Every fifth row is ignored, but never the first.
std::vector<std::int32_t> targets_for(std::int64_t rows, std::int64_t vocab) {
  std::vector<std::int32_t> targets;
  for (std::int64_t row = 0; row < rows; ++row) {
    targets.push_back(row % 5 == 4 ? -1 : static_cast<std::int32_t>(row * 7'919 % vocab));
  }
  return targets;
}

struct Actual {
  std::vector<double> losses, logits;
};

Actual run(DType dtype, std::int64_t vocab, std::int64_t width, const std::vector<float>& logits,
           const std::vector<std::int32_t>& targets, bool write_gradient) {
  const std::int64_t rows = std::ssize(targets);
  const GuardedTensor in(dtype, {rows, width}, logits), losses(DType::kFloat32, {rows});
  const GuardedTensor wanted({rows}, targets);
  backend::cross_entropy({.logits = in,
                          .losses = losses,
                          .targets = wanted,
                          .vocab = vocab,
                          .scale = kScale,
                          .write_gradient = write_gradient},
                         {});
  return {losses.values(), in.values()};
}

TEST_P(CrossEntropyRows, MatchesTheFormula) {
  for (const std::int64_t vocab : {1, 31, 257, 1'600, 50'257}) {
    for (const std::int64_t rows : kRowCounts) {
      for (const std::int64_t padding : {0, 47}) {
        const std::int64_t width = vocab + padding;
        const std::vector<float> logits = uniform(rows * width, 1, -8.0f, 8.0f);
        const std::vector<std::int32_t> targets = targets_for(rows, vocab);
        const GuardedTensor rounded(dtype(), {rows, width}, logits);
        const Expected expected =
            reference(rounded.values(), targets, static_cast<std::size_t>(vocab));

        const Actual actual = run(dtype(), vocab, width, logits, targets, true);
        EXPECT_LE(nmse(expected.losses, actual.losses), 1e-12) << rows << " x " << vocab;
        EXPECT_LE(nmse(expected.gradient, actual.logits), limit(1e-12, 1e-5))
            << rows << " x " << vocab;

        const Actual loss_only = run(dtype(), vocab, width, logits, targets, false);
        EXPECT_EQ(loss_only.losses, actual.losses);
        EXPECT_EQ(loss_only.logits, rounded.values());
      }
    }
  }
}

TEST_P(CrossEntropyRows, PaddingAndIgnoredRowsGetZeroWhateverTheyHold) {
  const std::int64_t vocab = 1'000, width = 1'024;
  std::vector<float> logits = uniform(2 * width, 1);
  std::fill_n(logits.begin() + vocab, width - vocab, 1e30f);  // padding of row 0
  std::fill_n(logits.begin() + width, width, std::nanf(""));  // row 1 is ignored
  const Actual actual = run(dtype(), vocab, width, logits, {3, -1}, true);
  EXPECT_LT(actual.losses[0], 10.0);
  EXPECT_EQ(actual.losses[1], 0.0);
  const std::vector<double> rest(actual.logits.begin() + vocab, actual.logits.end());
  EXPECT_EQ(rest, std::vector<double>(rest.size(), 0.0));
}

TEST_P(CrossEntropyRows, SurvivesExtremeLogits) {
  const std::int64_t vocab = 3'001;
  // An outlier late in the row rescales the running sum; one early makes all others vanish.
  for (const std::size_t outlier : {0, 5, 2'999, 3'000}) {
    for (const float height : {1e4f, -1e4f}) {
      std::vector<float> logits = uniform(2 * vocab, 1);
      logits[outlier] = height;
      logits[static_cast<std::size_t>(vocab) + outlier] = height;
      const std::vector<std::int32_t> targets = {static_cast<std::int32_t>(outlier), 1'234};
      const GuardedTensor rounded(dtype(), {2, vocab}, logits);
      const Expected expected =
          reference(rounded.values(), targets, static_cast<std::size_t>(vocab));
      const Actual actual = run(dtype(), vocab, vocab, logits, targets, true);
      EXPECT_LE(nmse(expected.losses, actual.losses), 1e-12) << height << " at " << outlier;
      EXPECT_LE(nmse(expected.gradient, actual.logits), limit(1e-12, 1e-5))
          << height << " at " << outlier;
    }
  }
}

TEST(CrossEntropyGradient, MatchesFiniteDifferencesOfTheLoss) {
  const std::int64_t vocab = 17;
  const std::vector<float> logits = uniform(vocab, 1, -3.0f, 3.0f);
  const Actual actual = run(DType::kFloat32, vocab, vocab, logits, {5}, true);
  std::vector<double> expected;
  for (std::size_t j = 0; j < logits.size(); ++j) {
    const double h = 1e-5;
    std::vector<double> up(logits.begin(), logits.end()), down = up;
    up[j] += h;
    down[j] -= h;
    const double rise = reference(up, {5}, 17).losses[0] - reference(down, {5}, 17).losses[0];
    expected.push_back(double{kScale} * rise / (2.0 * h));
  }
  EXPECT_LE(nmse(expected, actual.logits), 1e-12);
}

TEST_P(CrossEntropyRows, DoesNotDependOnTheSchedule) {
  const std::int64_t vocab = 1'600;
  const std::vector<float> logits = uniform(67 * vocab, 1, -8.0f, 8.0f);
  expect_same_bits_in_any_schedule(
      [&] { return run(dtype(), vocab, vocab, logits, targets_for(67, vocab), true).logits; });
}

TEST(LossSum, AddsScaledLosses) {
  const std::vector<float> values = uniform(10'001, 1, 0.0f, 12.0f);
  double total = 0.0;
  for (const float value : values) total += double{value};
  const GuardedTensor losses(DType::kFloat32, {std::ssize(values)}, values);
  const GuardedTensor cell(DType::kFloat32, {1}, {100.0f});
  backend::loss_sum({.cell = cell, .losses = losses, .scale = 0.25f, .accumulate = false}, {});
  EXPECT_NEAR(cell.values()[0] / (0.25 * total), 1.0, 1e-7);
  backend::loss_sum({.cell = cell, .losses = losses, .scale = 0.25f, .accumulate = true}, {});
  EXPECT_NEAR(cell.values()[0] / (0.5 * total), 1.0, 2e-7);
}

}  // namespace
}  // namespace gpt2train::test
