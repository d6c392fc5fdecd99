#include <cmath>

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

constexpr float kLearningRate = 3e-3f;
constexpr float kDecay = 0.1f;

class AdamWUpdate : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, AdamWUpdate, kFloatTypes, dtype_name);

// Three ranges with odd bounds; the middle one is decayed.
std::vector<DecayRange> ranges_of(std::int64_t count) {
  const std::int64_t a = count / 3, b = count / 3 + count / 2;
  return {{0, a, false}, {a, b, true}, {b, count, false}};
}

// Weights, moments and gradients of a run of updates. Masters only where weights are bf16.
struct Training {
  Training(DType dtype, std::int64_t count)
      : ranges(ranges_of(count)),
        weights(dtype, {count}, uniform(count, 1)),
        masters(DType::kFloat32, {count}, uniform(count, 1)),
        m(DType::kFloat32, {count}, std::vector<float>(static_cast<std::size_t>(count))),
        v(DType::kFloat32, {count}, std::vector<float>(static_cast<std::size_t>(count))) {}

  void update(std::int64_t number, const std::vector<float>& gradients, float clip, float finite) {
    const GuardedTensor g(DType::kFloat32, weights.view().shape, gradients);
    const GuardedTensor state(DType::kFloat32, {kGradStateCount}, {1.0f, clip, finite, 0.0f});
    const bool narrow = weights.view().dtype != DType::kFloat32;
    backend::adamw({.weights = weights,
                    .masters = narrow ? masters.view() : TensorView{},
                    .gradients = g,
                    .m = m,
                    .v = v,
                    .state = state,
                    .ranges = ranges,
                    .learning_rate = kLearningRate,
                    .weight_decay = kDecay,
                    .update = number},
                   {});
  }
  const GuardedTensor& updated() const {
    return weights.view().dtype == DType::kFloat32 ? weights : masters;
  }

  std::vector<DecayRange> ranges;
  GuardedTensor weights, masters, m, v;
};

TEST_P(AdamWUpdate, MatchesTheFormulaOverSeveralUpdates) {
  for (const std::int64_t count : {1, 31, 257, 768, 100'003}) {
    Training run(dtype(), count);
    std::vector<double> p = run.updated().values(), m(p.size()), v(p.size());
    const std::vector<DecayRange> ranges = ranges_of(count);
    for (int t = 1; t <= 3; ++t) {
      const std::vector<float> gradients = uniform(count, static_cast<std::uint64_t>(10 + t));
      const double clip = 0.5 / t;
      run.update(t, gradients, static_cast<float>(clip), 1.0f);
      for (std::size_t i = 0; i < p.size(); ++i) {
        const auto index = static_cast<std::int64_t>(i);
        const bool decayed = index >= ranges[1].begin && index < ranges[1].end;
        const double g = double{gradients[i]} * clip;
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.95 * v[i] + 0.05 * g * g;
        const double m_hat = m[i] / (1.0 - std::pow(0.9, t));
        const double v_hat = v[i] / (1.0 - std::pow(0.95, t));
        p[i] -= double{kLearningRate} *
                (m_hat / (std::sqrt(v_hat) + 1e-8) + (decayed ? double{kDecay} * p[i] : 0.0));
      }
    }
    EXPECT_LE(nmse(p, run.updated().values()), 1e-13) << count;
    EXPECT_LE(nmse(m, run.m.values()), 1e-12) << count;
    EXPECT_LE(nmse(v, run.v.values()), 1e-12) << count;
  }
}

TEST(AdamWMasters, WeightsAreTheMastersRounded) {
  const std::int64_t count = 10'001;
  Training run(DType::kBFloat16, count);
  run.update(1, uniform(count, 2), 1.0f, 1.0f);
  const float* masters = run.masters.view().as<float>();
  const GuardedTensor rounded(DType::kBFloat16, {count}, {masters, masters + count});
  EXPECT_EQ(run.weights.values(), rounded.values());
}

TEST_P(AdamWUpdate, NonFiniteGradientsChangeNothing) {
  Training run(dtype(), 1'000);
  run.update(1, uniform(1'000, 2), 1.0f, 1.0f);
  const auto everything = [&] {
    return std::vector{run.weights.values(), run.masters.values(), run.m.values(), run.v.values()};
  };
  const auto before = everything();
  run.update(2, std::vector<float>(1'000, std::nanf("")), std::nanf(""), 0.0f);
  EXPECT_EQ(everything(), before);
}

TEST_P(AdamWUpdate, DoesNotDependOnTheSchedule) {
  expect_same_bits_in_any_schedule([&] {
    Training run(dtype(), 100'003);
    run.update(1, uniform(100'003, 2), 0.7f, 1.0f);
    return run.updated().values();
  });
}

}  // namespace
}  // namespace gpt2train::test
