#include "kernels/attention.h"

#include <cmath>
#include <cstring>

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

#ifdef GPT2TRAIN_CUDNN
#include "kernels/cuda/cudnn.h"
#endif

namespace gpt2train::test {
namespace {

class Attention : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Attention, kFloatTypes, dtype_name);

struct Case {
  std::int64_t batch, time, heads, head_size;
  Dropout dropout = {};
  float scale = 1.0f;  // of the inputs

  std::int64_t width() const { return heads * head_size; }
};

struct Result {
  std::vector<double> out, lse, d_qkv;
};

// Attention and its gradient in double, with whole rows of probabilities.
Result reference(const Case& c, const std::vector<double>& qkv, const std::vector<double>& d_out) {
  const std::int64_t B = c.batch, T = c.time, H = c.heads, D = c.head_size, C = c.width();
  Result r{.out = std::vector<double>(B * T * C),
           .lse = std::vector<double>(B * H * T),
           .d_qkv = std::vector<double>(B * T * 3 * C)};
  const double scale = 1.0 / std::sqrt(static_cast<double>(D));
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t h = 0; h < H; ++h) {
      const auto at = [&](std::int64_t t, std::int64_t part) {
        return (b * T + t) * 3 * C + part * C + h * D;
      };
      for (std::int64_t i = 0; i < T; ++i) {
        std::vector<double> p(i + 1), mask(i + 1), d_p(i + 1);
        double top = -HUGE_VAL, sum = 0.0, dot = 0.0;
        for (std::int64_t j = 0; j <= i; ++j) {
          for (std::int64_t d = 0; d < D; ++d)
            p[j] += qkv[at(i, 0) + d] * qkv[at(j, 1) + d] * scale;
          top = std::max(top, p[j]);
        }
        for (double& x : p) sum += x = std::exp(x - top);
        for (double& x : p) x /= sum;
        r.lse[(b * H + h) * T + i] = top + std::log(sum);
        const std::int64_t row = (b * T + i) * C + h * D;
        for (std::int64_t j = 0; j <= i; ++j) {
          mask[j] = dropout_factor(c.dropout, c.dropout.row_0() + static_cast<std::uint64_t>(b),
                                   (h * T + i) * T + j);
          for (std::int64_t d = 0; d < D; ++d) {
            r.out[row + d] += p[j] * mask[j] * qkv[at(j, 2) + d];
            d_p[j] += d_out[row + d] * mask[j] * qkv[at(j, 2) + d];
            r.d_qkv[at(j, 2) + d] += p[j] * mask[j] * d_out[row + d];
          }
          dot += p[j] * d_p[j];
        }
        for (std::int64_t j = 0; j <= i; ++j) {
          const double d_score = p[j] * (d_p[j] - dot) * scale;
          for (std::int64_t d = 0; d < D; ++d) {
            r.d_qkv[at(i, 0) + d] += d_score * qkv[at(j, 1) + d];
            r.d_qkv[at(j, 1) + d] += d_score * qkv[at(i, 0) + d];
          }
        }
      }
    }
  }
  return r;
}

struct Tensors {
  Tensors(const Case& c, DType dtype)
      : qkv(dtype, {c.batch, c.time, 3 * c.width()},
            uniform(c.batch * c.time * 3 * c.width(), 1, -2.0f * c.scale, 2.0f * c.scale)),
        d_out(dtype, {c.batch, c.time, c.width()}, uniform(c.batch * c.time * c.width(), 2)),
        out(dtype, {c.batch, c.time, c.width()}),
        d_qkv(dtype, {c.batch, c.time, 3 * c.width()}),
        lse(DType::kFloat32, {c.batch, c.heads, c.time}) {}
  GuardedTensor qkv, d_out, out, d_qkv, lse;
};

// The kernels under test, and what they take as scratch.
struct Kernels {
  decltype(&backend::attention_forward) forward = backend::attention_forward;
  decltype(&backend::attention_backward) backward = backend::attention_backward;
  decltype(&backend::attention_forward_workspace) forward_workspace =
      backend::attention_forward_workspace;
  decltype(&backend::attention_backward_workspace) backward_workspace =
      backend::attention_backward_workspace;
};

Result run(const Case& c, const Tensors& t, const Kernels& kernels = {}) {
  const int heads = static_cast<int>(c.heads);
  AttentionForward forward{
      .out = t.out, .lse = t.lse, .qkv = t.qkv, .heads = heads, .dropout = c.dropout};
  GuardedBytes scratch(kernels.forward_workspace(forward));
  forward.workspace = scratch.workspace();
  kernels.forward(forward, {});
  AttentionBackward backward{.d_qkv = t.d_qkv,
                             .d_out = t.d_out,
                             .out = t.out,
                             .lse = t.lse,
                             .qkv = t.qkv,
                             .heads = heads,
                             .dropout = c.dropout};
  GuardedBytes backward_scratch(kernels.backward_workspace(backward));
  backward.workspace = backward_scratch.workspace();
  kernels.backward(backward, {});
  return {t.out.values(), t.lse.values(), t.d_qkv.values()};
}

void expect_matches(const Case& c, DType dtype, double limit, const Kernels& kernels = {}) {
  SCOPED_TRACE(concat("batch ", c.batch, ", time ", c.time, ", heads ", c.heads, ", head size ",
                      c.head_size, c.dropout.active() ? ", dropout" : ""));
  const Tensors t(c, dtype);
  const Result actual = run(c, t, kernels);
  const Result expected = reference(c, t.qkv.values(), t.d_out.values());
  EXPECT_LE(nmse(expected.out, actual.out), limit);
  EXPECT_LE(nmse(expected.lse, actual.lse), 1e-12);  // fp32 whatever the dtype
  EXPECT_LE(nmse(expected.d_qkv, actual.d_qkv), limit * 4.0);
}

TEST_P(Attention, MatchesTheFormulaAtAnyTime) {
  for (const std::int64_t time : kTimes) {
    expect_matches({.batch = 3, .time = time, .heads = 2, .head_size = 32}, dtype(),
                   limit(1e-12, 2e-5));
  }
  expect_matches({.batch = 1, .time = kLongTime, .heads = 1, .head_size = 64}, dtype(),
                 limit(1e-12, 2e-5));
}

TEST_P(Attention, MatchesTheFormulaAtAnyHeadSize) {
  for (const std::int64_t head_size : {1, 3, 24, 32, 64, 80, 128}) {
    expect_matches({.batch = 1, .time = 130, .heads = 2, .head_size = head_size}, dtype(),
                   limit(1e-12, 2e-5));
  }
}

TEST_P(Attention, DropsTheProbabilitiesThatTheDefinitionDrops) {
  const Dropout dropout{.rate = 0.3f,
                        .seed = 9,
                        .first_sample = (std::uint64_t{1} << 33) + 5,
                        .layer = 7,
                        .use = RandomUse::kDropoutAttention};
  for (const std::int64_t time : kTimes) {
    expect_matches({.batch = 2, .time = time, .heads = 3, .head_size = 16, .dropout = dropout},
                   dtype(), limit(1e-12, 2e-5));
  }
}

// A softmax that has become a choice of one key. Scores reach 10^6, where the rounding of lse
// alone moves the gradients away from the formula.
TEST_P(Attention, SurvivesExtremeScores) {
  const Case c{.batch = 1, .time = 100, .heads = 2, .head_size = 64, .scale = 300.0f};
  const Tensors t(c, dtype());
  const Result result = run(c, t);
  const Result expected = reference(c, t.qkv.values(), t.d_out.values());
  EXPECT_LE(nmse(expected.out, result.out), limit(1e-6, 2e-5));
  EXPECT_LE(nmse(expected.lse, result.lse), 1e-12);
  for (const double x : result.d_qkv) ASSERT_TRUE(std::isfinite(x));
}

TEST_P(Attention, SeesNoLaterPosition) {
  const Case c{.batch = 1, .time = 97, .heads = 2, .head_size = 32};
  const Tensors t(c, dtype()), other(c, dtype());
  const std::int64_t first = 70;
  const TensorView future = other.qkv.view().slice_rows(first, c.time - first);
  std::memset(future.data, 0x40, future.bytes());  // 3.0 in both types
  std::vector<double> expected = run(c, t).out, actual = run(c, other).out;
  EXPECT_NE(actual, expected);
  expected.resize(static_cast<std::size_t>(first * c.width()));
  actual.resize(expected.size());
  EXPECT_EQ(actual, expected);
}

TEST_P(Attention, DoesNotDependOnTheSchedule) {
  const Case c{.batch = 2,
               .time = 150,
               .heads = 2,
               .head_size = 24,
               .dropout = {.rate = 0.2f, .use = RandomUse::kDropoutAttention}};
  expect_same_bits_in_any_schedule([&] {
    const Tensors t(c, dtype());
    Result result = run(c, t);
    result.out.insert(result.out.end(), result.lse.begin(), result.lse.end());
    result.out.insert(result.out.end(), result.d_qkv.begin(), result.d_qkv.end());
    return result.out;
  });
}

#ifdef GPT2TRAIN_CUDNN
class CudnnAttention : public FloatKernelTest {
 protected:
  void SetUp() override {
    if (dtype() == DType::kFloat32) GTEST_SKIP() << "cuDNN's attention is for 16 bits";
    try {
      cuda::cudnn();
    } catch (const DeviceError& error) {
      GTEST_SKIP() << error.what();
    }
  }
  const Kernels kernels_{.forward = cuda::attention_forward_cudnn,
                         .backward = cuda::attention_backward_cudnn,
                         .forward_workspace = cuda::attention_forward_cudnn_workspace,
                         .backward_workspace = cuda::attention_backward_cudnn_workspace};
};
INSTANTIATE_TEST_SUITE_P(Gpu, CudnnAttention, kFloatTypes, dtype_name);

TEST_P(CudnnAttention, MatchesTheFormula) {
  for (const std::int64_t time : kTimes) {
    if (time < 2) continue;
    expect_matches({.batch = 3, .time = time, .heads = 2, .head_size = 32}, dtype(), 2e-5,
                   kernels_);
  }
  for (const std::int64_t head_size : {8, 24, 40, 64, 80, 128}) {
    expect_matches({.batch = 1, .time = 130, .heads = 2, .head_size = head_size}, dtype(), 2e-5,
                   kernels_);
  }
  expect_matches({.batch = 1, .time = kLongTime, .heads = 1, .head_size = 64}, dtype(), 2e-5,
                 kernels_);
}

TEST_P(CudnnAttention, GivesTheSameBitsEveryTime) {
  const Case c{.batch = 2, .time = 1000, .heads = 3, .head_size = 64};
  const Tensors t(c, dtype());
  const Result first = run(c, t, kernels_);
  for (int i = 0; i < 10; ++i) {
    const Result again = run(c, t, kernels_);
    EXPECT_EQ(again.out, first.out);
    EXPECT_EQ(again.lse, first.lse);
    EXPECT_EQ(again.d_qkv, first.d_qkv);
  }
}
#endif

#ifndef GPT2TRAIN_TEST_CUDA
// The dry run asks with shapes alone.
TEST_P(Attention, ScratchIsAFunctionOfTheShapeAndTheThreads) {
  const auto bytes = [&](std::int64_t batch, int threads) {
    const Shape out = {batch, 150, 72}, qkv = {batch, 150, 216}, lse = {batch, 3, 150};
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    const std::size_t size =
        backend::attention_backward_workspace({.d_qkv = {nullptr, dtype(), qkv},
                                               .d_out = {nullptr, dtype(), out},
                                               .out = {nullptr, dtype(), out},
                                               .lse = {nullptr, DType::kFloat32, lse},
                                               .qkv = {nullptr, dtype(), qkv},
                                               .heads = 3});
    omp_set_num_threads(before);
    return size;
  };
  EXPECT_EQ(bytes(2, 3), 3 * bytes(2, 1));
  EXPECT_EQ(bytes(7, 2), bytes(1, 2));
}
#endif

}  // namespace
}  // namespace gpt2train::test
