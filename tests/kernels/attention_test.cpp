#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

struct Sizes {
  std::int64_t batch, heads, time, head_size;

  std::int64_t width() const { return heads * head_size; }
  std::int64_t row(std::int64_t b, std::int64_t t) const { return b * time + t; }
  Shape out() const { return {batch, time, width()}; }
  Shape qkv() const { return {batch, time, 3 * width()}; }
  Shape lse() const { return {batch, heads, time}; }
};

std::ostream& operator<<(std::ostream& out, const Sizes& s) {
  return out << "batch " << s.batch << ", heads " << s.heads << ", time " << s.time
             << ", head size " << s.head_size;
}

struct Result {
  std::vector<double> out, lse, d_qkv;
};

// The formulas, one query at a time: probabilities, dropout, values; then every gradient.
class Oracle {
 public:
  Oracle(const Sizes& sizes, const Dropout& dropout, const std::vector<double>& qkv,
         const std::vector<double>& d_out)
      : s_(sizes), dropout_(dropout), qkv_(qkv), d_out_(d_out) {
    result_.out.resize(d_out.size());
    result_.lse.resize(static_cast<std::size_t>(s_.lse().count()));
    result_.d_qkv.resize(qkv.size());
    for (std::int64_t b = 0; b < s_.batch; ++b) {
      for (std::int64_t h = 0; h < s_.heads; ++h) {
        for (std::int64_t t = 0; t < s_.time; ++t) query(b, h, t);
      }
    }
  }
  const Result& result() const { return result_; }

 private:
  // Where part 0 (q), 1 (k) or 2 (v) of a position begins.
  std::size_t at(std::int64_t b, std::int64_t h, std::int64_t t, int part) const {
    return static_cast<std::size_t>((s_.row(b, t) * 3 + part) * s_.width() + h * s_.head_size);
  }
  double dot(const double* x, const double* y) const {
    double sum = 0.0;
    for (std::int64_t i = 0; i < s_.head_size; ++i) sum += x[i] * y[i];
    return sum;
  }

  void query(std::int64_t b, std::int64_t h, std::int64_t t) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(s_.head_size));
    const double* const q = &qkv_[at(b, h, t, 0)];
    const auto head = static_cast<std::size_t>(s_.row(b, t) * s_.width() + h * s_.head_size);
    std::vector<double> p, factor;
    for (std::int64_t key = 0; key <= t; ++key) {
      p.push_back(scale * dot(q, &qkv_[at(b, h, key, 1)]));
      factor.push_back(dropout_factor(dropout_, dropout_.first_sample + static_cast<std::uint64_t>(b),
                                      (h * s_.time + t) * s_.time + key));
    }
    const double largest = *std::max_element(p.begin(), p.end());
    double sum = 0.0;
    for (const double score : p) sum += std::exp(score - largest);
    const double lse = largest + std::log(sum);
    result_.lse[static_cast<std::size_t>((b * s_.heads + h) * s_.time + t)] = lse;
    for (double& x : p) x = std::exp(x - lse);

    for (std::size_t key = 0; key < p.size(); ++key) {
      const double* const v = &qkv_[at(b, h, static_cast<std::int64_t>(key), 2)];
      double* const out = &result_.out[head];
      for (std::int64_t i = 0; i < s_.head_size; ++i) out[i] += p[key] * factor[key] * v[i];
    }

    const double* const d_out = &d_out_[head];
    const double mean = dot(d_out, &result_.out[head]);
    double* const d_q = &result_.d_qkv[at(b, h, t, 0)];
    for (std::size_t key = 0; key < p.size(); ++key) {
      const auto position = static_cast<std::int64_t>(key);
      const double* const k = &qkv_[at(b, h, position, 1)];
      double* const d_k = &result_.d_qkv[at(b, h, position, 1)];
      double* const d_v = &result_.d_qkv[at(b, h, position, 2)];
      const double d_p = factor[key] * dot(d_out, &qkv_[at(b, h, position, 2)]);
      const double d_score = scale * p[key] * (d_p - mean);
      for (std::int64_t i = 0; i < s_.head_size; ++i) {
        d_v[i] += p[key] * factor[key] * d_out[i];
        d_q[i] += d_score * k[i];
        d_k[i] += d_score * q[i];
      }
    }
  }

  Sizes s_;
  Dropout dropout_;
  const std::vector<double>& qkv_;
  const std::vector<double>& d_out_;
  Result result_;
};

class Attention : public FloatKernelTest {
 protected:
  Result run(const Sizes& s, const Dropout& dropout, float magnitude = 1.5f) {
    const GuardedTensor qkv(dtype(), s.qkv(), uniform(s.qkv().count(), 1, -magnitude, magnitude));
    const GuardedTensor d_out(dtype(), s.out(), uniform(s.out().count(), 2));
    const GuardedTensor out(dtype(), s.out()), lse(DType::kFloat32, s.lse());
    const GuardedTensor d_qkv(dtype(), s.qkv());
    qkv_ = qkv.values();
    d_out_ = d_out.values();

    AttentionForward forward = {.out = out,
                                .lse = lse,
                                .qkv = qkv,
                                .heads = static_cast<int>(s.heads),
                                .dropout = dropout};
    GuardedBytes forward_scratch(cpu::attention_forward_workspace(forward));
    forward.workspace = forward_scratch.workspace();
    cpu::attention_forward(forward, {});

    AttentionBackward backward = {.d_qkv = d_qkv,
                                  .d_out = d_out,
                                  .out = out,
                                  .lse = lse,
                                  .qkv = qkv,
                                  .heads = static_cast<int>(s.heads),
                                  .dropout = dropout};
    GuardedBytes backward_scratch(cpu::attention_backward_workspace(backward));
    backward.workspace = backward_scratch.workspace();
    cpu::attention_backward(backward, {});
    EXPECT_EQ(qkv.values(), qkv_) << "inputs were written";
    return {.out = out.values(), .lse = lse.values(), .d_qkv = d_qkv.values()};
  }

  void expect_close(const Sizes& s, const Dropout& dropout = {}) {
    const Result actual = run(s, dropout);
    const Oracle oracle(s, dropout, qkv_, d_out_);
    const Result& expected = oracle.result();
    EXPECT_LE(nmse(expected.out, actual.out), limit(1e-12, 1e-5)) << s;
    EXPECT_LE(nmse(expected.lse, actual.lse), 1e-12) << s;
    EXPECT_LE(nmse(expected.d_qkv, actual.d_qkv), limit(1e-12, 2e-5)) << s;
  }

  std::vector<double> qkv_, d_out_;
};
INSTANTIATE_TEST_SUITE_P(Cpu, Attention, kFloatTypes, dtype_name);

constexpr Dropout kDropout = {.rate = 0.2f,
                              .seed = 7,
                              .first_sample = 41,
                              .layer = 3,
                              .use = RandomUse::kDropoutAttention};

TEST_P(Attention, MatchesTheFormulasAtEveryLength) {
  for (const std::int64_t time : {1, 2, 31, 63, 64, 65, 257}) {
    for (const std::int64_t batch : {1, 3}) expect_close({batch, 2, time, 32});
  }
  expect_close({1, 1, 1'000, 64});
}

TEST_P(Attention, MatchesTheFormulasForEveryHeadSize) {
  for (const std::int64_t head_size : {1, 3, 24, 32, 64, 80, 128}) {
    for (const std::int64_t time : {5, 130}) expect_close({1, 3, time, head_size});
  }
}

TEST_P(Attention, DropsTheProbabilitiesOfTheAddressedElements) {
  for (const std::int64_t time : {1, 7, 64, 130, 257}) expect_close({3, 2, time, 24}, kDropout);
}

// A softmax that has become a choice of one key. Scores reach 10^8 here, so only lse's own rounding
// keeps the gradients from the formula.
TEST_P(Attention, StaysFiniteForHugeScores) {
  const Sizes s = {2, 2, 130, 64};
  const Result actual = run(s, {}, 1e4f);
  const Oracle oracle(s, {}, qkv_, d_out_);
  EXPECT_LE(nmse(oracle.result().out, actual.out), limit(1e-12, 1e-5));
  EXPECT_LE(nmse(oracle.result().lse, actual.lse), 1e-12);
  const auto finite = [](double x) { return std::isfinite(x); };
  EXPECT_TRUE(std::all_of(actual.d_qkv.begin(), actual.d_qkv.end(), finite));
}

TEST_P(Attention, SeesNoLaterPosition) {
  const Sizes s = {1, 2, 97, 32};
  const std::vector<float> before = uniform(s.qkv().count(), 1);
  std::vector<float> after = before;
  const std::int64_t changed = 70;
  for (std::size_t i = static_cast<std::size_t>(changed * 3 * s.width()); i < after.size(); ++i) {
    after[i] = -3.0f * after[i];
  }
  const auto outputs = [&](const std::vector<float>& values) {
    const GuardedTensor qkv(dtype(), s.qkv(), values);
    const GuardedTensor out(dtype(), s.out()), lse(DType::kFloat32, s.lse());
    AttentionForward args = {.out = out, .lse = lse, .qkv = qkv, .heads = static_cast<int>(s.heads)};
    GuardedBytes scratch(cpu::attention_forward_workspace(args));
    args.workspace = scratch.workspace();
    cpu::attention_forward(args, {});
    std::vector<double> result = out.values();
    result.resize(static_cast<std::size_t>(changed * s.width()));
    return result;
  };
  EXPECT_EQ(outputs(before), outputs(after));
}

TEST_P(Attention, DoesNotDependOnTheThreadCount) {
  expect_thread_count_has_no_effect([&] {
    const Result r = run({2, 3, 150, 24}, kDropout);
    std::vector<double> all = r.out;
    all.insert(all.end(), r.lse.begin(), r.lse.end());
    all.insert(all.end(), r.d_qkv.begin(), r.d_qkv.end());
    return all;
  });
}

TEST_P(Attention, ScratchIsAFunctionOfTheShapeAndTheThreads) {
  const Sizes s = {2, 3, 150, 24};
  AttentionBackward args = {.d_qkv = {nullptr, dtype(), s.qkv()},
                            .d_out = {nullptr, dtype(), s.out()},
                            .out = {nullptr, dtype(), s.out()},
                            .lse = {nullptr, DType::kFloat32, s.lse()},
                            .qkv = {nullptr, dtype(), s.qkv()},
                            .heads = 3};
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const std::size_t one = cpu::attention_backward_workspace(args);
  omp_set_num_threads(3);
  EXPECT_EQ(cpu::attention_backward_workspace(args), 3 * one);
  omp_set_num_threads(before);
  args.qkv.shape = args.d_qkv.shape = {7, 150, 72 * 3};
  EXPECT_EQ(cpu::attention_backward_workspace(args), before * one) << "of the batch";
}

}  // namespace
}  // namespace gpt2train::test
