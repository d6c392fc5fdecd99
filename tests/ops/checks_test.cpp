// Shape checks: an op refuses what its kernel could not survive, and the dry run checks the same.
#include <gtest/gtest.h>

#include "gpt2train/memory/tensor.h"
#include "gpt2train/memory/upstream.h"
#include "gpt2train/ops/ops.h"

namespace gpt2train {
namespace {

class OpChecks : public testing::Test {
 protected:
  Tensor tensor(Shape shape, DType dtype = DType::kFloat32) {
    return {memory_, Tag::kWorkspace, "t", dtype, shape};
  }
  DryRunUpstream upstream_;
  CachingAllocator memory_{upstream_, CachingAllocator::kNoBudget};
  Exec exec_{cpu_kernels(), memory_, Compute::kDryRun};
};

TEST_F(OpChecks, MatmulRefusesShapesThatDoNotMeet) {
  const Tensor out = tensor({2, 4}), a = tensor({2, 3}), b = tensor({5, 4}), b_ok = tensor({3, 4});
  EXPECT_THROW(ops::matmul(exec_, {.out = out, .a = a, .b = b}), InternalError);
  EXPECT_NO_THROW(ops::matmul(exec_, {.out = out, .a = a, .b = b_ok}));
  EXPECT_THROW(ops::matmul(exec_, {.out = out, .a = a, .b = b_ok, .transpose_a = true}),
               InternalError);
}

TEST_F(OpChecks, MatmulRefusesMixedDtypes) {
  const Tensor out = tensor({2, 4}), a = tensor({2, 3}), b = tensor({3, 4}, DType::kBFloat16);
  EXPECT_THROW(ops::matmul(exec_, {.out = out, .a = a, .b = b}), InternalError);
}

TEST_F(OpChecks, LayerNormRefusesWrongStatistics) {
  const Tensor x = tensor({4, 8}), gamma = tensor({8}), mean = tensor({4}), wrong = tensor({3});
  EXPECT_THROW(ops::layernorm_forward(
                   exec_, {.out = x, .mean = mean, .rstd = wrong, .in = x, .gamma = gamma}),
               InternalError);
  EXPECT_NO_THROW(ops::layernorm_forward(
      exec_, {.out = x, .mean = mean, .rstd = mean, .in = x, .gamma = gamma}));
}

TEST_F(OpChecks, LayerNormBackwardRefusesAliasedGradients) {
  const Tensor x = tensor({4, 8}), d = tensor({4, 8}), gamma = tensor({8}), mean = tensor({4});
  EXPECT_THROW(ops::layernorm_backward(exec_, {.d_in = d,
                                               .d_gamma = gamma,
                                               .d_out = d,
                                               .in = x,
                                               .mean = mean,
                                               .rstd = mean,
                                               .gamma = gamma}),
               InternalError);
}

TEST_F(OpChecks, AttentionRefusesHeadsThatDoNotDivide) {
  const Tensor out = tensor({1, 4, 8}), qkv = tensor({1, 4, 24}), lse = tensor({1, 3, 4});
  EXPECT_THROW(ops::attention_forward(exec_, {.out = out, .lse = lse, .qkv = qkv, .heads = 3}),
               InternalError);
}

TEST_F(OpChecks, AttentionCachedRefusesTokensBeyondTheCache) {
  const Tensor out = tensor({2, 3, 8}), qkv = tensor({2, 3, 24}), k = tensor({2, 5, 8});
  const auto run = [&](const TensorView& v, std::int64_t position, int heads = 2) {
    ops::attention_cached(
        exec_, {.out = out, .k = k, .v = v, .qkv = qkv, .position = position, .heads = heads});
  };
  EXPECT_NO_THROW(run(k, 2));
  EXPECT_THROW(run(k, 3), InternalError);
  EXPECT_THROW(run(k, -1), InternalError);
  EXPECT_THROW(run(k, 2, 3), InternalError);
  EXPECT_THROW(run(tensor({2, 4, 8}), 2), InternalError);
  EXPECT_THROW(run(tensor({2, 5, 8}, DType::kBFloat16), 2), InternalError);
}

TEST_F(OpChecks, EmbeddingRefusesTimeBeyondThePositions) {
  const Tensor out = tensor({1, 5, 8}), tokens = tensor({1, 5}, DType::kInt32);
  const Tensor tokens_table = tensor({10, 8}), positions = tensor({4, 8});
  EXPECT_THROW(
      ops::embedding_forward(
          exec_,
          {.out = out, .tokens = tokens, .token_table = tokens_table, .position_table = positions}),
      InternalError);
}

TEST_F(OpChecks, CrossEntropyRefusesAVocabularyWiderThanTheLogits) {
  const Tensor logits = tensor({2, 8}), losses = tensor({2}), targets = tensor({2}, DType::kInt32);
  EXPECT_THROW(ops::cross_entropy(
                   exec_, {.logits = logits, .losses = losses, .targets = targets, .vocab = 9}),
               InternalError);
}

TEST_F(OpChecks, AdamWRefusesRangesWithGaps) {
  const Tensor a = tensor({8}), state = tensor({std::int64_t{kGradStateCount}});
  const DecayRange gap[] = {{.begin = 0, .end = 3, .decay = true}, {.begin = 4, .end = 8}};
  EXPECT_THROW(
      ops::adamw(exec_,
                 {.weights = a, .gradients = a, .m = a, .v = a, .state = state, .ranges = gap}),
      InternalError);
}

TEST_F(OpChecks, AdamWUpdatesFloat32AndBFloat16Alone) {
  const DecayRange range[] = {{.begin = 0, .end = 8, .decay = true}};
  const Tensor state = tensor({std::int64_t{kGradStateCount}});
  const Tensor wide = tensor({8}), narrow = tensor({8}, DType::kBFloat16);
  const Tensor half = tensor({8}, DType::kFloat16);
  const auto update = [&](const TensorView& weights, const TensorView& masters, const TensorView& m,
                          const TensorView& v) {
    ops::adamw(exec_, {.weights = weights,
                       .masters = masters,
                       .gradients = wide,
                       .m = m,
                       .v = v,
                       .state = state,
                       .ranges = range});
  };
  EXPECT_NO_THROW(update(narrow, {}, narrow, narrow));
  EXPECT_NO_THROW(update(half, wide, narrow, narrow));
  EXPECT_THROW(update(half, {}, narrow, narrow), InternalError);
  EXPECT_THROW(update(narrow, narrow, wide, wide), InternalError);
  EXPECT_THROW(update(wide, {}, wide, narrow), InternalError);
  EXPECT_THROW(update(wide, {}, half, half), InternalError);
}

TEST_F(OpChecks, AdamWTakesCodesWithTheirScales) {
  const DecayRange range[] = {{.begin = 0, .end = 300, .decay = true}};
  const Tensor state = tensor({std::int64_t{kGradStateCount}});
  const Tensor wide = tensor({300}), m = tensor({300}, DType::kInt8);
  const Tensor v = tensor({300}, DType::kUInt8), scales = tensor({2}), few = tensor({1});
  const auto update = [&](const TensorView& first, const TensorView& second,
                          const TensorView& first_scales, const TensorView& second_scales) {
    ops::adamw(exec_, {.weights = wide,
                       .gradients = wide,
                       .m = first,
                       .v = second,
                       .m_scales = first_scales,
                       .v_scales = second_scales,
                       .state = state,
                       .ranges = range});
  };
  EXPECT_NO_THROW(update(m, v, scales, scales));
  EXPECT_THROW(update(m, m, scales, scales), InternalError);
  EXPECT_THROW(update(v, v, scales, scales), InternalError);
  EXPECT_THROW(update(m, v, scales, few), InternalError);
  EXPECT_THROW(update(m, v, {}, scales), InternalError);
}

}  // namespace
}  // namespace gpt2train
