// The kernels against PyTorch's results for the same inputs, where the reference data are present.
#include <algorithm>
#include <filesystem>
#include <optional>

#include "gpt2train/data/safetensors.h"
#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

class Golden : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = GPT2TRAIN_GOLDEN_DIR "/numerics/ops.safetensors";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no reference data at " << path;
    file_.emplace(path);
  }
  Shape shape(const std::string& name) const {
    const std::vector<std::int64_t>& dims = file_->at(name).shape;
    return dims.size() == 1 ? Shape{dims[0]} : Shape{dims[0], file_->at(name).count() / dims[0]};
  }
  GuardedTensor tensor(const std::string& name) const {
    return {DType::kFloat32, shape(name), file_->floats(name)};
  }
  std::vector<double> values(const std::string& name) const {
    const std::vector<float> stored = file_->floats(name);
    return {stored.begin(), stored.end()};
  }
  std::optional<SafetensorsFile> file_;
};

TEST_F(Golden, Gelu) {
  for (const auto& [name, form] :
       {std::pair{"gelu_erf", GeluForm::kErf}, {"gelu_tanh", GeluForm::kTanh}}) {
    const std::string op = name;
    const GuardedTensor x = tensor(op + ".x"), dy = tensor(op + ".dy");
    const GuardedTensor y(DType::kFloat32, x.view().shape), dx(DType::kFloat32, x.view().shape);
    backend::gelu_forward({.out = y, .in = x, .form = form}, {});
    backend::gelu_backward({.d_in = dx, .d_out = dy, .in = x, .form = form}, {});
    EXPECT_LE(nmse(values(op + ".y"), y.values()), 1e-12) << op;
    EXPECT_LE(nmse(values(op + ".dx"), dx.values()), 1e-12) << op;
  }
}

TEST_F(Golden, LayerNorm) {
  for (const std::string op : {"ln_c37", "ln_c64", "ln_c768"}) {
    const GuardedTensor x = tensor(op + ".x"), dy = tensor(op + ".dy");
    const GuardedTensor gamma = tensor(op + ".weight"), beta = tensor(op + ".bias");
    const Shape rows = {x.view().rows()}, width = {x.view().width()};
    const GuardedTensor y(DType::kFloat32, x.view().shape), dx(DType::kFloat32, x.view().shape),
        mean(DType::kFloat32, rows), rstd(DType::kFloat32, rows), d_gamma(DType::kFloat32, width),
        d_beta(DType::kFloat32, width);
    backend::layernorm_forward(
        {.out = y, .mean = mean, .rstd = rstd, .in = x, .gamma = gamma, .beta = beta}, {});
    LayerNormBackward args = {.d_in = dx,
                              .d_gamma = d_gamma,
                              .d_beta = d_beta,
                              .d_out = dy,
                              .in = x,
                              .mean = mean,
                              .rstd = rstd,
                              .gamma = gamma,
                              .overwrite_d_in = true};
    GuardedBytes scratch(backend::layernorm_backward_workspace(args));
    args.workspace = scratch.workspace();
    backend::layernorm_backward(args, {});
    EXPECT_LE(nmse(values(op + ".y"), y.values()), 1e-12) << op;
    EXPECT_LE(nmse(values(op + ".dx"), dx.values()), 1e-12) << op;
    EXPECT_LE(nmse(values(op + ".dweight"), d_gamma.values()), 1e-12) << op;
    EXPECT_LE(nmse(values(op + ".dbias"), d_beta.values()), 1e-12) << op;
  }
}

TEST_F(Golden, CrossEntropy) {
  for (const std::string op : {"ce_v101", "ce_v5003", "ce_extreme"}) {
    const GuardedTensor logits = tensor(op + ".logits");
    const std::vector<std::int32_t> ids = file_->integers(op + ".targets");
    const GuardedTensor targets({std::ssize(ids)}, ids);
    const GuardedTensor losses(DType::kFloat32, {std::ssize(ids)}), cell(DType::kFloat32, {1});
    const auto valid = std::count_if(ids.begin(), ids.end(), [](int id) { return id >= 0; });
    const float scale = 1.0f / static_cast<float>(valid);
    backend::cross_entropy({.logits = logits,
                            .losses = losses,
                            .targets = targets,
                            .vocab = logits.view().width(),
                            .scale = scale,
                            .write_gradient = true},
                           {});
    backend::loss_sum({.cell = cell, .losses = losses, .scale = scale, .accumulate = false}, {});
    EXPECT_LE(nmse(values(op + ".loss"), cell.values()), 1e-12) << op;
    EXPECT_LE(nmse(values(op + ".dlogits"), logits.values()), 1e-12) << op;
  }
}

TEST_F(Golden, Embedding) {
  const std::vector<std::int32_t> ids = file_->integers("embed.idx");
  const GuardedTensor tokens({2, 3}, ids), table = tensor("embed.weight");
  const GuardedTensor positions(DType::kFloat32, {3, 6}, std::vector<float>(18));
  const GuardedTensor y(DType::kFloat32, {2, 3, 6}), d_positions(DType::kFloat32, {3, 6});
  const GuardedTensor d_table(DType::kFloat32, {11, 6}, std::vector<float>(66));
  const GuardedTensor dy(DType::kFloat32, {2, 3, 6}, file_->floats("embed.dy"));
  backend::embedding_forward(
      {.out = y, .tokens = tokens, .token_table = table, .position_table = positions}, {});
  backend::embedding_backward(
      {.d_token_table = d_table, .d_position_table = d_positions, .d_out = dy, .tokens = tokens},
      {});
  EXPECT_EQ(y.values(), values("embed.y"));
  EXPECT_LE(nmse(values("embed.dweight"), d_table.values()), 1e-13);
}

TEST_F(Golden, GradientClipping) {
  for (const std::string op : {"clip", "clip_nop"}) {
    std::vector<float> gradients = file_->floats(op + ".g0");
    const std::vector<float> rest = file_->floats(op + ".g1");
    gradients.insert(gradients.end(), rest.begin(), rest.end());
    std::vector<double> clipped = values(op + ".g0_clipped");
    const std::vector<double> clipped_rest = values(op + ".g1_clipped");
    clipped.insert(clipped.end(), clipped_rest.begin(), clipped_rest.end());

    const GuardedTensor in(DType::kFloat32, {std::ssize(gradients)}, gradients);
    const GuardedTensor state(DType::kFloat32, {kGradStateCount});
    GradNorm args = {.state = state, .gradients = in, .max_norm = 1.0f};
    GuardedBytes scratch(backend::grad_norm_workspace(args));
    args.workspace = scratch.workspace();
    backend::grad_norm(args, {});
    std::vector<double> actual(gradients.begin(), gradients.end());
    for (double& g : actual) g *= state.values()[kGradStateClip];
    EXPECT_NEAR(state.values()[kGradStateNorm] / values(op + ".norm")[0], 1.0, 1e-6);
    EXPECT_LE(nmse(clipped, actual), 1e-12) << op;  // PyTorch adds 1e-6 to the norm
  }
}

TEST_F(Golden, AdamW) {
  for (const std::string op : {"adamw_wd0.0", "adamw_wd0.1"}) {
    const std::vector<float> params = file_->floats(op + ".params");
    const std::vector<float> gradients = file_->floats(op + ".grads");
    const std::int64_t count = shape(op + ".exp_avg")[0], updates = shape(op + ".grads")[0];
    const std::vector<float> zeros(static_cast<std::size_t>(count));
    const GuardedTensor m(DType::kFloat32, {count}, zeros), v(DType::kFloat32, {count}, zeros);
    const GuardedTensor weights(DType::kFloat32, {count}, {params.begin(), params.begin() + count});
    const GuardedTensor state(DType::kFloat32, {kGradStateCount}, {1.0f, 1.0f, 1.0f, 0.0f});
    const DecayRange range = {0, count, true};
    for (std::int64_t t = 0; t < updates; ++t) {
      const auto g = gradients.begin() + t * count, next = params.begin() + (t + 1) * count;
      const GuardedTensor gradient(DType::kFloat32, {count}, {g, g + count});
      backend::adamw({.weights = weights,
                      .gradients = gradient,
                      .m = m,
                      .v = v,
                      .state = state,
                      .ranges = {&range, 1},
                      .learning_rate = 3e-3f,
                      .weight_decay = op == "adamw_wd0.1" ? 0.1f : 0.0f,
                      .update = t + 1},
                     {});
      EXPECT_LE(nmse({next, next + count}, weights.values()), 1e-13) << op << " update " << t + 1;
    }
    EXPECT_LE(nmse(values(op + ".exp_avg"), m.values()), 1e-12) << op;
    EXPECT_LE(nmse(values(op + ".exp_avg_sq"), v.values()), 1e-12) << op;
  }
}

}  // namespace
}  // namespace gpt2train::test
