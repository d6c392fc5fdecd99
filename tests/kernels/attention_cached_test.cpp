#include "kernels/attention_cached.h"

#include <cmath>

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

class AttentionCachedKernel : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, AttentionCachedKernel, kFloatTypes, dtype_name);

struct Case {
  std::int64_t batch, heads, head_size;
  std::vector<std::int64_t> pieces = {};  // tokens of each call
  std::int64_t unused = 3;                // rows of the cache that no call reaches
  float scale = 1.0f;                     // of the inputs

  std::int64_t width() const { return heads * head_size; }
  std::int64_t time() const {
    std::int64_t sum = 0;
    for (const std::int64_t piece : pieces) sum += piece;
    return sum;
  }
};

// (B, T, C) in double, with whole rows of probabilities, from all of qkv (B, T, 3C) at once.
std::vector<double> reference(const Case& c, const std::vector<double>& qkv) {
  const std::int64_t T = c.time(), D = c.head_size, C = c.width();
  std::vector<double> out(static_cast<std::size_t>(c.batch * T * C));
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const auto at = [&](std::int64_t t, std::int64_t part) {
        return (b * T + t) * 3 * C + part * C + h * D;
      };
      for (std::int64_t i = 0; i < T; ++i) {
        std::vector<double> p(static_cast<std::size_t>(i + 1));
        double top = -HUGE_VAL, sum = 0.0;
        for (std::int64_t j = 0; j <= i; ++j) {
          for (std::int64_t d = 0; d < D; ++d) p[j] += qkv[at(i, 0) + d] * qkv[at(j, 1) + d];
          p[j] /= std::sqrt(static_cast<double>(D));
          top = std::max(top, p[j]);
        }
        for (double& x : p) sum += x = std::exp(x - top);
        for (std::int64_t j = 0; j <= i; ++j) {
          for (std::int64_t d = 0; d < D; ++d) {
            out[(b * T + i) * C + h * D + d] += p[j] / sum * qkv[at(j, 2) + d];
          }
        }
      }
    }
  }
  return out;
}

struct Result {
  std::vector<double> qkv = {}, out = {};  // (B, T, ...), as rounded
  std::vector<double> k = {}, v = {};      // (B, capacity, C)
};

// Rows [first, first + count) of each sample of (B, T, width) values.
template <class Value>
std::vector<Value> piece_of(const std::vector<Value>& values, std::int64_t batch, std::int64_t time,
                            std::int64_t width, std::int64_t first, std::int64_t count) {
  std::vector<Value> piece;
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto begin = values.begin() + (b * time + first) * width;
    piece.insert(piece.end(), begin, begin + count * width);
  }
  return piece;
}

// Token by token, or however the pieces have it. What a cache holds at first is NaN.
Result run(const Case& c, DType dtype) {
  const std::int64_t B = c.batch, T = c.time(), C = c.width(), capacity = T + c.unused;
  const std::vector<float> all = uniform(B * T * 3 * C, 1, -2.0f * c.scale, 2.0f * c.scale);
  const GuardedTensor k(dtype, {B, capacity, C}), v(dtype, {B, capacity, C});
  Result result{.qkv = GuardedTensor(dtype, {B, T, 3 * C}, all).values(),
                .out = std::vector<double>(static_cast<std::size_t>(B * T * C))};
  std::int64_t position = 0;
  for (const std::int64_t count : c.pieces) {
    const GuardedTensor qkv(dtype, {B, count, 3 * C}, piece_of(all, B, T, 3 * C, position, count));
    const GuardedTensor out(dtype, {B, count, C});
    backend::attention_cached({.out = out,
                               .k = k,
                               .v = v,
                               .qkv = qkv,
                               .position = position,
                               .heads = static_cast<int>(c.heads)},
                              {});
    const std::vector<double> values = out.values();
    for (std::int64_t b = 0; b < B; ++b) {
      std::copy_n(values.begin() + b * count * C, count * C,
                  result.out.begin() + (b * T + position) * C);
    }
    position += count;
  }
  result.k = k.values();
  result.v = v.values();
  return result;
}

void expect_matches(const Case& c, DType dtype, double limit) {
  SCOPED_TRACE(concat("batch ", c.batch, ", heads ", c.heads, ", head size ", c.head_size,
                      ", time ", c.time(), " in ", c.pieces.size(), " pieces"));
  const Result result = run(c, dtype);
  EXPECT_LE(nmse(reference(c, result.qkv), result.out), limit);
}

TEST_P(AttentionCachedKernel, MatchesTheFormulaHoweverTheTokensCome) {
  for (const std::vector<std::int64_t>& pieces :
       {std::vector<std::int64_t>{1}, {1, 1, 1, 1, 1}, {7, 20, 3}}) {
    expect_matches({.batch = 2, .heads = 3, .head_size = 32, .pieces = pieces}, dtype(),
                   limit(1e-12, 2e-5));
  }
  for (const std::vector<std::int64_t>& pieces : {std::vector<std::int64_t>{64}, {65, 1, 64, 1}}) {
    expect_matches({.batch = 1, .heads = 1, .head_size = 64, .pieces = pieces}, dtype(),
                   limit(1e-12, 2e-5));
  }
}

TEST_P(AttentionCachedKernel, MatchesTheFormulaAtAnyHeadSize) {
  for (const std::int64_t head_size : {1, 3, 24, 33, 64, 80, 128}) {
    expect_matches({.batch = 1, .heads = 2, .head_size = head_size, .pieces = {9, 1}, .unused = 0},
                   dtype(), limit(1e-12, 2e-5));
  }
}

TEST_P(AttentionCachedKernel, SurvivesExtremeScores) {
  const Case c{.batch = 1, .heads = 2, .head_size = 64, .pieces = {20, 1}, .scale = 300.0f};
  expect_matches(c, dtype(), limit(1e-6, 2e-5));
}

TEST_P(AttentionCachedKernel, KeepsKeysAndValuesAsTheyAreAndLeavesTheOtherRowsAlone) {
  const Case c{.batch = 2, .heads = 3, .head_size = 5, .pieces = {4, 1, 2}, .unused = 2};
  const Result result = run(c, dtype());
  const std::int64_t B = c.batch, T = c.time(), C = c.width(), capacity = T + c.unused;
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t t = 0; t < capacity; ++t) {
      for (std::int64_t i = 0; i < C; ++i) {
        const double k = result.k[(b * capacity + t) * C + i];
        const double v = result.v[(b * capacity + t) * C + i];
        if (t < T) {
          ASSERT_EQ(k, result.qkv[(b * T + t) * 3 * C + C + i]) << b << ' ' << t << ' ' << i;
          ASSERT_EQ(v, result.qkv[(b * T + t) * 3 * C + 2 * C + i]) << b << ' ' << t << ' ' << i;
        } else {
          ASSERT_TRUE(std::isnan(k) && std::isnan(v)) << b << ' ' << t << ' ' << i;
        }
      }
    }
  }
}

TEST_P(AttentionCachedKernel, DoesNotDependOnTheSchedule) {
  const Case c{.batch = 2, .heads = 2, .head_size = 24, .pieces = {13, 1, 3}, .unused = 0};
  expect_same_bits_in_any_schedule([&] {
    Result result = run(c, dtype());
    result.out.insert(result.out.end(), result.k.begin(), result.k.end());
    result.out.insert(result.out.end(), result.v.begin(), result.v.end());
    return result.out;
  });
}

#ifndef GPT2TRAIN_TEST_CUDA
// Wider than what the kernel sums at a time.
TEST_P(AttentionCachedKernel, MatchesTheFormulaOfAVeryWideHead) {
  expect_matches({.batch = 1, .heads = 1, .head_size = 1030, .pieces = {3, 1}}, dtype(),
                 limit(1e-12, 2e-5));
}
#endif

}  // namespace
}  // namespace gpt2train::test
