#include <algorithm>
#include <cmath>

#include "gpt2train/core/moment_code.h"
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
                                         Storage{.weights = kBf16, .moments = kBf16},
                                         with_masters(DType::kFloat32, DType::kInt8),
                                         with_masters(kBf16, DType::kInt8),
                                         Storage{.weights = kBf16, .moments = DType::kInt8}),
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

// As a level with the sign of what it stands for.
double level_of(DType dtype, double code) {
  return dtype == DType::kInt8 ? code : code + 1.0;
}
double magnitude_of(DType dtype, double level) {
  return dtype == DType::kInt8 ? std::pow(level / 127.0, 2.0) : std::pow(level / 256.0, 4.0);
}

// Zeros, in the dtype that v has where m has `moments`.
struct Moment {
  Moment(DType dtype, std::int64_t count)
      : stored(dtype, {count}, std::vector<float>(static_cast<std::size_t>(count))),
        scales(DType::kFloat32, {code_blocks(count)},
               std::vector<float>(static_cast<std::size_t>(code_blocks(count)))) {}

  bool coded() const { return size_of(stored.view().dtype) == 1; }
  TensorView scales_view() const { return coded() ? scales.view() : TensorView{}; }
  std::vector<double> values() const {
    std::vector<double> result = stored.values();
    if (!coded()) return result;
    const DType dtype = stored.view().dtype;
    const std::vector<double> scale = scales.values();
    for (std::size_t i = 0; i < result.size(); ++i) {
      const double level = level_of(dtype, result[i]);
      result[i] = std::copysign(magnitude_of(dtype, level), level) * scale[i / kCodeBlock];
    }
    return result;
  }

  GuardedTensor stored, scales;
};

// Weights, moments and gradients of a run of updates.
struct Training {
  Training(const Storage& storage, std::int64_t count)
      : has_masters(storage.masters),
        ranges(ranges_of(count)),
        weights(storage.weights, {count}, uniform(count, 1)),
        masters(DType::kFloat32, {count}, uniform(count, 1)),
        m(storage.moments, count),
        v(storage.moments == DType::kInt8 ? DType::kUInt8 : storage.moments, count) {}

  void update(std::int64_t number, const std::vector<float>& gradients, float clip, float finite) {
    const GuardedTensor g(DType::kFloat32, weights.view().shape, gradients);
    const GuardedTensor state(DType::kFloat32, {kGradStateCount}, {1.0f, clip, finite, 0.0f});
    backend::adamw({.weights = weights,
                    .masters = has_masters ? masters.view() : TensorView{},
                    .gradients = g,
                    .m = m.stored,
                    .v = v.stored,
                    .m_scales = m.scales_view(),
                    .v_scales = v.scales_view(),
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
    return {weights.values(),  masters.values(),  m.stored.values(),
            v.stored.values(), m.scales.values(), v.scales.values()};
  }

  bool has_masters;
  float learning_rate = kLearningRate;
  std::vector<DecayRange> ranges;
  GuardedTensor weights, masters;
  Moment m, v;
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
    p.x = p.terms = run.updated().values();
    m.x = m.terms = run.m.values();
    v.x = v.terms = run.v.values();
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

// The level, with the sign of x, where what is cut off and the random number reach a whole step.
double coded(DType dtype, double x, double scale, std::uint32_t random) {
  if (scale == 0.0) return dtype == DType::kInt8 ? 0.0 : 1.0;
  const double highest = dtype == DType::kInt8 ? 127.0 : 256.0;
  const double root = std::pow(std::abs(x) / scale, dtype == DType::kInt8 ? 0.5 : 0.25) * highest;
  const double level =
      std::clamp(std::floor(root), dtype == DType::kInt8 ? 0.0 : 1.0, highest - 1.0);
  const double low = magnitude_of(dtype, level), high = magnitude_of(dtype, level + 1.0);
  const bool up = (std::abs(x) / scale - low) * 0x1p16 > random * (high - low);
  return std::copysign(level + (up ? 1.0 : 0.0), x);
}

// That a block's scale is its largest value, and each code that of the value and the random number
// of its place. An fp32 root and quotient are within the bounds, too.
void expect_coded(const Exact::Values& exact, const Moment& moment, RandomUse use, int update) {
  constexpr double kError = 0x1p-20;
  const DType dtype = moment.stored.view().dtype;
  const std::vector<double> codes = moment.stored.values(), scales = moment.scales.values();
  for (std::size_t block = 0; block < scales.size(); ++block) {
    const std::size_t begin = block * kCodeBlock;
    const std::size_t end = std::min(begin + kCodeBlock, codes.size());
    double least = 0.0, most = 0.0;
    for (std::size_t i = begin; i < end; ++i) {
      least = std::max(least, std::abs(exact.x[i]) - exact.terms[i] * kError);
      most = std::max(most, std::abs(exact.x[i]) + exact.terms[i] * kError);
    }
    ASSERT_TRUE(least <= scales[block] && scales[block] <= most)
        << "block " << block << ": " << scales[block] << ", expected " << least << " to " << most;
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint32_t random = half_of(use, update, i);
      const double error = exact.terms[i] * kError, level = level_of(dtype, codes[i]);
      const double low = coded(dtype, exact.x[i] - error, scales[block], random);
      const double high = coded(dtype, exact.x[i] + error, scales[block], random);
      ASSERT_TRUE(low <= level && level <= high)
          << "element " << i << ": level " << level << ", expected " << low << " to " << high;
    }
  }
}

void expect_stored(const Exact::Values& exact, const Moment& moment, RandomUse use, int update) {
  if (moment.coded()) return expect_coded(exact, moment, use, update);
  expect_stored(exact, moment.stored, use, update);
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
  EXPECT_NEAR(mean_of(run.m.stored), 1.0 - std::pow(0.9, kUpdates), 2e-4);
  EXPECT_NEAR(mean_of(run.v.stored), 1.0 - std::pow(0.95, kUpdates), 2e-4);
}

// The first element of a block sets its scale, and codes around the others are 5 % apart: rounding
// to nearest would stop m at 80 % of its end. Limits are four standard deviations, or more.
TEST(AdamWSmallChanges, AreKeptInTheMeanOfCodes) {
  constexpr std::int64_t kCount = 16'384;
  constexpr int kUpdates = 60;
  std::vector<float> gradients(kCount, 1.0f);
  for (std::size_t i = 0; i < kCount; i += kCodeBlock) gradients[i] = 10.0f;
  Training run({.moments = DType::kInt8}, kCount);
  for (int t = 1; t <= kUpdates; ++t) run.update(t, gradients, 1.0f, 1.0f);
  for (const auto& [moment, end, limit] : {std::tuple(&run.m, 1.0 - std::pow(0.9, kUpdates), 2e-3),
                                           {&run.v, 1.0 - std::pow(0.95, kUpdates), 2.5e-3}}) {
    const std::vector<double> values = moment->values();
    double sum = 0.0;
    for (std::size_t i = 0; i < kCount; ++i) sum += i % kCodeBlock == 0 ? 0.0 : values[i];
    EXPECT_NEAR(sum / (kCount - kCount / kCodeBlock), end, limit);
  }
}

// m of an element may be rounded up from next to nothing; its v is no less than the lowest level.
TEST(AdamWCodes, NoUpdateIsHugeBesideAMuchLargerGradient) {
  constexpr std::int64_t kCount = 4 * kCodeBlock;
  std::vector<float> gradients(kCount, 1e-6f);
  for (std::size_t i = 0; i < kCount; i += kCodeBlock) gradients[i] = 1.0f;
  Training run({.moments = DType::kInt8}, kCount);
  run.ranges = {{0, kCount, false}};
  double largest = 0.0;
  for (int t = 1; t <= 30; ++t) {
    const std::vector<double> before = run.weights.values();
    run.update(t, gradients, 1.0f, 1.0f);
    const std::vector<double> after = run.weights.values();
    for (std::size_t i = 0; i < kCount; ++i) {
      largest = std::max(largest, std::abs(after[i] - before[i]));
    }
  }
  EXPECT_LT(largest, 5.0 * double{kLearningRate});
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
    std::vector<double> all;
    for (const std::vector<double>& each : run.everything()) {
      all.insert(all.end(), each.begin(), each.end());
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
