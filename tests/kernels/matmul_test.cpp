#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

// The squared relative error of an fp32 sum rounded once, at its worst: half of the last bit.
double one_rounding(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return 1.01 * 0x1p-16;
    case DType::kFloat16:
      return 1.01 * 0x1p-22;
    default:
      return 1e-12;
  }
}

struct Product {
  std::int64_t m = 1, n = 1, k = 1;
  bool transpose_a = false, transpose_b = false;
  bool bias = false, accumulate = false;
  bool fp32_out = false;
};

std::ostream& operator<<(std::ostream& out, const Product& p) {
  return out << p.m << " x " << p.n << " x " << p.k << (p.transpose_a ? ", a^T" : "")
             << (p.transpose_b ? ", b^T" : "") << (p.bias ? ", bias" : "")
             << (p.accumulate ? ", accumulate" : "") << (p.fp32_out ? ", fp32 out" : "");
}

class Matmul : public FloatKernelTest {
 protected:
  std::vector<double> run(const Product& p) {
    const DType out_dtype = p.fp32_out ? DType::kFloat32 : dtype();
    const GuardedTensor a(dtype(), p.transpose_a ? Shape{p.k, p.m} : Shape{p.m, p.k},
                          uniform(p.m * p.k, 1));
    const GuardedTensor b(dtype(), p.transpose_b ? Shape{p.n, p.k} : Shape{p.k, p.n},
                          uniform(p.k * p.n, 2));
    const GuardedTensor bias(dtype(), {p.n}, uniform(p.n, 3));
    const GuardedTensor out(out_dtype, {p.m, p.n}, uniform(p.m * p.n, 4));
    a_ = a.values();
    b_ = b.values();
    bias_ = bias.values();
    before_ = out.values();

    gpt2train::Matmul args = {.out = out,
                              .a = a,
                              .b = b,
                              .bias = p.bias ? bias.view() : TensorView{},
                              .transpose_a = p.transpose_a,
                              .transpose_b = p.transpose_b,
                              .accumulate = p.accumulate};
    GuardedBytes scratch(backend::matmul_workspace(args));
    args.workspace = scratch.workspace();
    backend::matmul(args, {});
    return out.values();
  }

  double expected(const Product& p, std::int64_t i, std::int64_t j) const {
    const auto at = [](const std::vector<double>& x, std::int64_t index) {
      return x[static_cast<std::size_t>(index)];
    };
    double sum = p.accumulate ? at(before_, i * p.n + j) : 0.0;
    if (p.bias) sum += at(bias_, j);
    for (std::int64_t k = 0; k < p.k; ++k) {
      sum += at(a_, p.transpose_a ? k * p.m + i : i * p.k + k) *
             at(b_, p.transpose_b ? j * p.k + k : k * p.n + j);
    }
    return sum;
  }

  // Every `step`-th element, counted over the whole matrix; 1 is all of them.
  void expect_close(const Product& p, std::int64_t step = 1) {
    const std::vector<double> all = run(p);
    std::vector<double> wanted, found;
    for (std::int64_t e = 0; e < p.m * p.n; e += step) {
      wanted.push_back(expected(p, e / p.n, e % p.n));
      found.push_back(all[static_cast<std::size_t>(e)]);
    }
    // One rounding to bf16 changes a number by a 256th part at most.
    EXPECT_LE(nmse(wanted, found), p.fp32_out ? 1e-12 : one_rounding(dtype())) << p;
  }

  std::vector<double> a_, b_, bias_, before_;
};
INSTANTIATE_TEST_SUITE_P(Cpu, Matmul, kFloatTypes, dtype_name);

TEST_P(Matmul, MatchesTheFormulaForEveryFormAndOddSizes) {
  for (const std::int64_t m : {1, 31, 257}) {
    for (const std::int64_t n : {1, 31, 257}) {
      for (const std::int64_t k : {1, 31, 257}) {
        const bool fp32_out = (m + n + k) % 4 == 1;
        for (const bool transpose_a : {false, true}) {
          for (const bool transpose_b : {false, true}) {
            // Most elements of the largest products tell nothing new.
            const std::int64_t step = m * n * k > 257 * 257 * 31 ? 97
                                      : m * n * k > 100'000      ? 13
                                                                 : 1;
            expect_close({.m = m,
                          .n = n,
                          .k = k,
                          .transpose_a = transpose_a,
                          .transpose_b = transpose_b,
                          .fp32_out = fp32_out},
                         step);
          }
        }
      }
    }
  }
}

// As when one text is written, or several together: at and around a block of rows or columns.
TEST_P(Matmul, MatchesTheFormulaForFewRows) {
  for (const std::int64_t m : {1, 2, 3, 4, 15, 16, 17}) {
    for (const std::int64_t n : {4, 35, 70}) {
      for (const bool bias : {false, true}) {
        expect_close({.m = m, .n = n, .k = 77, .transpose_b = true, .bias = bias});
        expect_close(
            {.m = m, .n = n, .k = 64, .transpose_b = true, .bias = bias, .fp32_out = true});
      }
    }
  }
}

#ifndef GPT2TRAIN_TEST_CUDA
TEST_P(Matmul, GivesARowTheSameBitsWhateverIsBesideIt) {
  const std::int64_t n = 70, k = 333;
  const std::vector<double> alone = run({.m = 1, .n = n, .k = k, .transpose_b = true});
  for (const std::int64_t m : {2, 5, 16}) {
    std::vector<double> together = run({.m = m, .n = n, .k = k, .transpose_b = true});
    together.resize(static_cast<std::size_t>(n));  // uniform() begins alike
    EXPECT_EQ(together, alone) << m;
  }
}
#endif

TEST_P(Matmul, AddsABiasOrToWhatIsThere) {
  for (const bool fp32_out : {false, true}) {
    for (const bool transpose : {false, true}) {
      Product p = {.m = 33,
                   .n = 47,
                   .k = 65,
                   .transpose_a = transpose,
                   .transpose_b = !transpose,
                   .fp32_out = fp32_out};
      p.bias = true;
      expect_close(p);
      p.bias = false;
      p.accumulate = true;
      expect_close(p);
    }
  }
}

// More than one of the tiles or strips that a product is made of, in each direction.
TEST_P(Matmul, MatchesTheFormulaAcrossTilesAndStrips) {
  for (const bool fp32_out : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      Product p = {.m = 3, .n = 5'000, .k = 40, .transpose_b = transpose_b, .fp32_out = fp32_out};
      p.bias = transpose_b;
      p.accumulate = !transpose_b;
      expect_close(p, 7);
    }
    expect_close(
        {.m = 1'100, .n = 1'030, .k = 70, .transpose_b = true, .bias = true, .fp32_out = fp32_out},
        1'009);
    expect_close({.m = 1'030, .n = 40, .k = 2'100, .fp32_out = fp32_out}, 101);
    expect_close({.m = 40,
                  .n = 1'030,
                  .k = 2'100,
                  .transpose_a = true,
                  .accumulate = true,
                  .fp32_out = fp32_out},
                 101);
  }
}

// A bf16 result is the fp32 sum rounded once, also when several tiles make up the sum: rounding
// after each of them would show as several times the error.
TEST_P(Matmul, RoundsOnce) {
  Product p = {.m = 32, .n = 48, .k = 8'192, .transpose_b = true};
  const std::vector<double> actual = run(p);
  p.fp32_out = true;
  EXPECT_LE(nmse(run(p), actual), 4e-6);
}

TEST_P(Matmul, GivesTheSameBitsEveryTime) {
  for (const Product& p :
       {Product{.m = 257, .n = 31, .k = 1'600, .transpose_b = true}, Product{.m = 31,
                                                                     .n = 65,
                                                                     .k = 5'000,
                                                                     .transpose_a = true,
                                                                     .accumulate = true,
                                                                     .fp32_out = true}}) {
    const std::vector<double> first = run(p);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(run(p), first) << p;
  }
}

// The dry run asks with shapes alone, and gets what the run will ask for.
TEST_P(Matmul, ScratchIsAFunctionOfTheShape) {
  const auto bytes = [&](void* data, std::int64_t m, std::int64_t n, std::int64_t k) {
    return backend::matmul_workspace({.out = {data, dtype(), {m, n}},
                                      .a = {data, dtype(), {m, k}},
                                      .b = {data, dtype(), {k, n}}});
  };
  int somewhere = 0;
  EXPECT_EQ(bytes(nullptr, 300, 200, 100), bytes(&somewhere, 300, 200, 100));
  EXPECT_LE(bytes(nullptr, 50'304, 2'000, 1'100), std::size_t{16} << 20);
}

#ifndef GPT2TRAIN_TEST_CUDA
TEST_P(Matmul, ServesMoreShapesThanItRemembers) {
  for (std::int64_t k = 1; k <= 300; ++k) expect_close({.m = 2, .n = 3, .k = k});
}

TEST_P(Matmul, FollowsTheThreadCount) {
  const int before = omp_get_max_threads();
  for (const int threads : {1, 3, 7}) {
    omp_set_num_threads(threads);
    expect_close({.m = 130, .n = 70, .k = 300, .transpose_b = true}, 7);
  }
  omp_set_num_threads(before);
}
#endif

}  // namespace
}  // namespace gpt2train::test
