#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"
#include "src/ops/scratch.h"

namespace gpt2train::ops {
namespace {

void check_statistics(const TensorView& mean, const TensorView& rstd, const TensorView& in) {
  GPT2_CHECK(mean.dtype == DType::kFloat32 && rstd.dtype == DType::kFloat32,
             "layernorm: statistics are fp32");
  GPT2_CHECK(mean.count() == in.rows() && rstd.count() == in.rows(), "layernorm: mean ", mean.shape,
             " and rstd ", rstd.shape, " need ", in.rows(), " values");
}

void check_affine(const TensorView& gamma, const TensorView& beta, const TensorView& in) {
  const std::int64_t width = in.width();
  GPT2_CHECK(gamma.count() == width && gamma.dtype == in.dtype, "layernorm: gamma ", gamma.shape,
             ", width ", width);
  GPT2_CHECK(!beta.present() || (beta.count() == width && beta.dtype == in.dtype),
             "layernorm: beta ", beta.shape, ", width ", width);
}

}  // namespace

void layernorm_forward(const Exec& exec, const LayerNormForward& args) {
  GPT2_CHECK(args.out.shape == args.in.shape && args.out.dtype == args.in.dtype,
             "layernorm: out is ", args.out.shape, ", in is ", args.in.shape);
  GPT2_CHECK(args.branch.present() == args.sum.present(), "layernorm: sum goes with branch");
  GPT2_CHECK(!args.branch.present() ||
                 (args.branch.shape == args.in.shape && args.sum.shape == args.in.shape &&
                  args.branch.dtype == args.in.dtype && args.sum.dtype == args.in.dtype),
             "layernorm: branch ", args.branch.shape, " and sum ", args.sum.shape, ", in is ",
             args.in.shape);
  GPT2_CHECK(args.in.rows() % args.time == 0, "layernorm: ", args.in.rows(), " rows of time ",
             args.time);
  check_statistics(args.mean, args.rstd, args.in);
  check_affine(args.gamma, args.beta, args.in);
  launch(exec, "layernorm_forward", exec.kernels().layernorm_forward, args);
}

void layernorm_backward(const Exec& exec, LayerNormBackward args) {
  GPT2_CHECK(args.d_in.shape == args.in.shape && args.d_out.shape == args.in.shape &&
                 args.d_in.dtype == args.in.dtype && args.d_out.dtype == args.in.dtype,
             "layernorm_backward: d_in ", args.d_in.shape, " and d_out ", args.d_out.shape,
             ", in is ", args.in.shape);
  GPT2_CHECK(args.d_in.data != args.d_out.data, "layernorm_backward: d_in aliases d_out");
  GPT2_CHECK(args.d_gamma.count() == args.in.width() && args.d_gamma.dtype == DType::kFloat32,
             "layernorm_backward: d_gamma ", args.d_gamma.shape);
  GPT2_CHECK(!args.d_beta.present() ||
                 (args.d_beta.count() == args.in.width() && args.d_beta.dtype == DType::kFloat32),
             "layernorm_backward: d_beta ", args.d_beta.shape);
  check_statistics(args.mean, args.rstd, args.in);
  check_affine(args.gamma, {}, args.in);
  const Buffer scratch = take_workspace(exec, exec.kernels().layernorm_backward_workspace, args,
                                        "layernorm_backward_scratch");
  launch(exec, "layernorm_backward", exec.kernels().layernorm_backward, args);
}

void layernorm_recompute(const Exec& exec, const LayerNormRecompute& args) {
  GPT2_CHECK(args.out.shape == args.in.shape && args.out.dtype == args.in.dtype,
             "layernorm_recompute: out is ", args.out.shape, ", in is ", args.in.shape);
  check_statistics(args.mean, args.rstd, args.in);
  check_affine(args.gamma, args.beta, args.in);
  launch(exec, "layernorm_recompute", exec.kernels().layernorm_recompute, args);
}

}  // namespace gpt2train::ops
