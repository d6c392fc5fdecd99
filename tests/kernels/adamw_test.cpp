#include <algorithm>
#include <cmath>

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

constexpr float kLearningRate = 3e-3f;
constexpr float kDecay = 0.1f;

// How weights and moments are stored.
struct Storage {
  DType weights = DType::kFloat32;
  DType moments = DType::kFloat32;
  bool masters = false;

  DType updated() const { return masters ? DType::kFloat32 : weights; }
};

std::string storage_name(const testing::TestParamInfo<Storage>& info) {
  return concat(name_of(info.param.weights), info.param.masters ? "_with_masters_" : "_",
                name_of(info.param.moments), "_moments");
}
void PrintTo(const Storage& storage, std::ostream* out) {
  *out << storage_name({storage, 0});
}

Storage with_masters(DType weights, DType moments = DType::kFloat32) {
  return {.weights = weights, .moments = moments, .masters = weights != DType::kFloat32};
}

class AdamWUpdate : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, AdamWUpdate, kFloatTypes, dtype_name);

constexpr DType kBf16 = DType::kBFloat16;
class AdamWRounding : public testing::TestWithParam<Storage> {};
INSTANTIATE_TEST_SUITE_P(Cpu, AdamWRounding,
                         testing::Values(with_masters(DType::kFloat32, kBf16),
                                         with_masters(kBf16, kBf16),
                                         Storage{.weights = kBf16, .moments = DType::kFloat32},
                                         Storage{.weights = kBf16, .moments = kBf16}),
                         storage_name);

// Three ranges with odd bounds; the middle one is decayed.
std::vector<DecayRange> ranges_of(std::int64_t count) {
  const std::int64_t a = count / 3, b = count / 3 + count / 2;
  return {{0, a, false}, {a, b, true}, {b, count, false}};
}

// More than a launch takes; the next one begins inside of a group of eight elements.
std::vector<DecayRange> many_ranges(std::int64_t count) {
  std::vector<DecayRange> ranges = {{0, 1, false}};
  while (ranges.back().end < count) {
    const std::int64_t begin = ranges.back().end;
    ranges.push_back({begin, std::min(begin + 3, count), !ranges.back().decay});
  }
  return ranges;
}

constexpr std::uint64_t kSeed = 0x9E3779B97F4A7C15u;

// Weights, moments and gradients of a run of updates.
struct Training {
  Training(const Storage& storage, std::int64_t count)
      : has_masters(storage.masters),
        ranges(ranges_of(count)),
        weights(storage.weights, {count}, uniform(count, 1)),
        masters(DType::kFloat32, {count}, uniform(count, 1)),
        m(storage.moments, {count}, std::vector<float>(static_cast<std::size_t>(count))),
        v(storage.moments, {count}, std::vector<float>(static_cast<std::size_t>(count))) {}

  void update(std::int64_t number, const std::vector<float>& gradients, float clip, float finite) {
    const GuardedTensor g(DType::kFloat32, weights.view().shape, gradients);
    const GuardedTensor state(DType::kFloat32, {kGradStateCount}, {1.0f, clip, finite, 0.0f});
    backend::adamw({.weights = weights,
                    .masters = has_masters ? masters.view() : TensorView{},
                    .gradients = g,
                    .m = m,
                    .v = v,
                    .state = state,
                    .ranges = ranges,
                    .learning_rate = learning_rate,
                    .weight_decay = kDecay,
                    .update = number,
                    .seed = kSeed},
                   {});
  }
  const GuardedTensor& updated() const { return has_masters ? masters : weights; }
  std::vector<std::vector<double>> everything() const {
    return {weights.values(), masters.values(), m.values(), v.values()};
  }

  bool has_masters;
  float learning_rate = kLearningRate;
  std::vector<DecayRange> ranges;
  GuardedTensor weights, masters, m, v;
};

// One update in double, before anything is stored, and what the terms of each sum add up to without
// their signs: the kernel's fp32 error is a share of that.
struct Exact {
  struct Values {
    std::vector<double> x, terms;
    void set(std::size_t i, double a, double b) {
      x[i] = a + b;
      terms[i] = std::abs(a) + std::abs(b);
    }
  };

  Exact(const Training& run, const std::vector<float>& gradients, float clip, int t) {
    const double beta1 = double{0.9f}, beta2 = double{0.95f};
    for (auto [values, from] : {std::pair(&p, &run.updated()), {&m, &run.m}, {&v, &run.v}}) {
      values->x = values->terms = from->values();
    }
    for (const DecayRange& range : run.ranges) {
      for (std::int64_t at = range.begin; at < range.end; ++at) {
        const auto i = static_cast<std::size_t>(at);
        const double g = double{gradients[i]} * double{clip};
        m.set(i, beta1 * m.x[i], (1.0 - beta1) * g);
        v.set(i, beta2 * v.x[i], (1.0 - beta2) * g * g);
        const double m_hat = m.x[i] / (1.0 - std::pow(beta1, t));
        const double v_hat = v.x[i] / (1.0 - std::pow(beta2, t));
        const double decay = range.decay ? double{kDecay} * p.x[i] : 0.0;
        p.set(i, p.x[i], -double{run.learning_rate} * (m_hat / (std::sqrt(v_hat) + 1e-8) + decay));
      }
    }
  }
  Values p, m, v;
};

// Where what is cut off, in steps of 2^-16, and the random number reach 2^16, away from zero.
double rounded(double x, std::uint32_t random) {
  const double step = std::ldexp(1.0, std::max(x == 0.0 ? -126 : std::ilogb(x), -126) - 7);
  const double whole = std::floor(std::abs(x) / step);
  const double cut_off = std::floor((std::abs(x) / step - whole) * 0x1p16);
  return std::copysign((whole + (cut_off + random >= 0x1p16 ? 1.0 : 0.0)) * step, x);
}

// The random half of an element, by core/rng.h.
std::uint32_t half_of(RandomUse use, int update, std::size_t element) {
  const auto group = static_cast<std::uint32_t>(element / 8);
  const Philox4 words = random_words(kSeed, use, static_cast<std::uint64_t>(update), 0, group);
  return words[element % 8 / 2] >> (element % 2 == 0 ? 0 : 16) & 0xFFFFu;
}

// That the values were stored as they are, or in bf16 by the random numbers of `use`. Between the
// bounds of the error there is another value of bf16 in one of some thousand elements.
void expect_stored(const Exact::Values& exact, const GuardedTensor& stored, RandomUse use,
                   int update) {
  const std::vector<double> found = stored.values();
  for (std::size_t i = 0; i < found.size(); ++i) {
    double low = exact.x[i] - exact.terms[i] * 0x1p-21,
           high = exact.x[i] + exact.terms[i] * 0x1p-21;
    if (stored.view().dtype == DType::kBFloat16) {
      low = rounded(low, half_of(use, update, i));
      high = rounded(high, half_of(use, update, i));
    }
    ASSERT_TRUE(low <= found[i] && found[i] <= high)
        << "element " << i << ": " << found[i] << ", expected " << low << " to " << high;
  }
}

void expect_the_formula(const Storage& storage) {
  for (const std::int64_t count : {1, 31, 257, 1'000, 40'003}) {
    Training run(storage, count);
    if (count == 1'000) run.ranges = many_ranges(count);
    for (int t = 1; t <= 3; ++t) {
      SCOPED_TRACE(concat("count ", count, ", update ", t));
      const std::vector<float> gradients = uniform(count, static_cast<std::uint64_t>(10 + t));
      const float clip = 0.5f / static_cast<float>(t);
      const Exact exact(run, gradients, clip, t);
      run.update(t, gradients, clip, 1.0f);
      expect_stored(exact.m, run.m, RandomUse::kRoundFirstMoment, t);
      expect_stored(exact.v, run.v, RandomUse::kRoundSecondMoment, t);
      expect_stored(exact.p, run.updated(), RandomUse::kRoundWeight, t);
    }
  }
}
TEST_P(AdamWUpdate, MatchesTheFormulaOverSeveralUpdates) {
  expect_the_formula(with_masters(dtype()));
}
TEST_P(AdamWRounding, IsOfTheFormulaByTheRandomNumbersOfThePlace) {
  expect_the_formula(GetParam());
}

double mean_of(const GuardedTensor& tensor) {
  double sum = 0.0;
  for (const double x : tensor.values()) sum += x;
  return sum / static_cast<double>(tensor.view().count());
}

// Each update moves a weight by 1e-5, and its neighbour in bf16 is 4e-3 away; the second moment
// comes within 7 % of its end, and rounding to nearest would stop it at 4 %. Limits are
// four standard deviations of the mean of the rounding errors, or more.
TEST(AdamWSmallChanges, AreKeptInTheMean) {
  constexpr std::int64_t kCount = 16'384;
  constexpr int kUpdates = 60;
  const std::vector<float> ones(kCount, 1.0f);
  Training run({.weights = DType::kBFloat16, .moments = DType::kBFloat16}, kCount);
  run.learning_rate = 1e-5f;
  run.ranges = {{0, kCount, false}};
  for (std::int64_t i = 0; i < kCount; ++i)
    run.weights.view().as<bf16>()[i] = from_float<bf16>(1.0f);
  for (int t = 1; t <= kUpdates; ++t) run.update(t, ones, 1.0f, 1.0f);
  EXPECT_NEAR(mean_of(run.weights), 1.0 - kUpdates * 1e-5, 5e-5);
  EXPECT_NEAR(mean_of(run.m), 1.0 - std::pow(0.9, kUpdates), 2e-4);
  EXPECT_NEAR(mean_of(run.v), 1.0 - std::pow(0.95, kUpdates), 2e-4);
}

TEST(AdamWMasters, WeightsAreTheMastersRounded) {
  const std::int64_t count = 10'001;
  Training run(with_masters(DType::kBFloat16), count);
  run.update(1, uniform(count, 2), 1.0f, 1.0f);
  const float* masters = run.masters.view().as<float>();
  const GuardedTensor rounded(DType::kBFloat16, {count}, {masters, masters + count});
  EXPECT_EQ(run.weights.values(), rounded.values());
}

void expect_no_change_by_a_gradient_that_is_not_finite(const Storage& storage) {
  Training run(storage, 1'000);
  run.update(1, uniform(1'000, 2), 1.0f, 1.0f);
  const auto before = run.everything();
  run.update(2, std::vector<float>(1'000, std::nanf("")), std::nanf(""), 0.0f);
  EXPECT_EQ(run.everything(), before);
}
TEST_P(AdamWUpdate, NonFiniteGradientsChangeNothing) {
  expect_no_change_by_a_gradient_that_is_not_finite(with_masters(dtype()));
}
TEST_P(AdamWRounding, NonFiniteGradientsChangeNothing) {
  expect_no_change_by_a_gradient_that_is_not_finite(GetParam());
}

void expect_any_schedule_gives(const Storage& storage) {
  expect_same_bits_in_any_schedule([&] {
    Training run(storage, 100'003);
    run.update(1, uniform(100'003, 2), 0.7f, 1.0f);
    std::vector<double> all = run.updated().values();
    for (const GuardedTensor* moments : {&run.m, &run.v}) {
      const std::vector<double> values = moments->values();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  });
}
TEST_P(AdamWUpdate, DoesNotDependOnTheSchedule) {
  expect_any_schedule_gives(with_masters(dtype()));
}
TEST_P(AdamWRounding, DoesNotDependOnTheSchedule) {
  expect_any_schedule_gives(GetParam());
}

}  // namespace
}  // namespace gpt2train::test
