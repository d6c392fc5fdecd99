#include <cmath>
#include <limits>

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

std::vector<double> grad_state(const std::vector<float>& gradients, float max_norm,
                               float loss_scale = 1.0f) {
  const std::int64_t count = std::ssize(gradients);
  const GuardedTensor in(DType::kFloat32, {count}, gradients);
  const GuardedTensor state(DType::kFloat32, {kGradStateCount}, {0.0f, 0.0f, 0.0f, 5.0f});
  GradNorm args = {.state = state, .gradients = in, .max_norm = max_norm, .loss_scale = loss_scale};
  GuardedBytes scratch(backend::grad_norm_workspace(args));
  args.workspace = scratch.workspace();
  backend::grad_norm(args, {});
  return state.values();
}

TEST(GradNorm, IsTheNormOfAllGradients) {
  for (const std::int64_t count : {1, 31, 257, 65'536, 300'001}) {
    const std::vector<float> gradients = uniform(count, 1);
    double squares = 0.0;
    for (const float g : gradients) squares += double{g} * double{g};
    const std::vector<double> state = grad_state(gradients, 0.0f);
    EXPECT_NEAR(state[kGradStateNorm] / std::sqrt(squares), 1.0, 1e-7) << count;
    EXPECT_EQ(state[kGradStateClip], 1.0);
    EXPECT_EQ(state[kGradStateFinite], 1.0);
    EXPECT_EQ(state[kGradStateLoss], 5.0);  // another's
  }
}

TEST(GradNorm, ClipsOnlyAboveTheLimit) {
  const std::vector<float> gradients = {3.0f, 4.0f};
  EXPECT_EQ(grad_state(gradients, 10.0f)[kGradStateClip], 1.0);
  EXPECT_FLOAT_EQ(static_cast<float>(grad_state(gradients, 1.0f)[kGradStateClip]), 0.2f);
  EXPECT_EQ(grad_state({0.0f, 0.0f}, 1.0f)[kGradStateClip], 1.0);
}

TEST(GradNorm, TakesTheLossScaleOut) {
  const std::vector<float> gradients = {3.0f * 1024.0f, 4.0f * 1024.0f};
  for (const float max_norm : {0.0f, 10.0f}) {
    const std::vector<double> state = grad_state(gradients, max_norm, 1024.0f);
    EXPECT_EQ(state[kGradStateNorm], 5.0);
    EXPECT_EQ(state[kGradStateClip], 1.0 / 1024.0);
  }
  const double clipped = grad_state(gradients, 1.0f, 1024.0f)[kGradStateClip];
  EXPECT_FLOAT_EQ(static_cast<float>(clipped), 0.2f / 1024.0f);
}

TEST(GradNorm, HugeFiniteGradientsAreFinite) {
  const std::vector<double> state = grad_state(std::vector<float>(100, 1e30f), 1.0f);
  EXPECT_FLOAT_EQ(static_cast<float>(state[kGradStateNorm]), 1e31f);
  EXPECT_FLOAT_EQ(static_cast<float>(state[kGradStateClip]), 1e-31f);
  EXPECT_EQ(state[kGradStateFinite], 1.0);
}

TEST(GradNorm, OneInfinityOrNaNClearsTheFlag) {
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), std::nanf("")}) {
    for (const std::size_t at : {0, 31, 70'000, 99'999}) {
      std::vector<float> gradients = uniform(100'000, 1);
      gradients[at] = bad;
      EXPECT_EQ(grad_state(gradients, 1.0f)[kGradStateFinite], 0.0) << bad << " at " << at;
    }
  }
}

TEST(GradNorm, DoesNotDependOnTheSchedule) {
  const std::vector<float> gradients = uniform(700'001, 1);
  expect_same_bits_in_any_schedule([&] { return grad_state(gradients, 1.0f); });
}

}  // namespace
}  // namespace gpt2train::test
