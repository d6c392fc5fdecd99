#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"

namespace gpt2train::ops {

void residual_forward(const Exec& exec, const ResidualForward& args) {
  GPT2_CHECK(args.out.shape == args.in.shape && args.branch.shape == args.in.shape,
             "residual: out ", args.out.shape, " = ", args.in.shape, " + ", args.branch.shape);
  GPT2_CHECK(args.out.dtype == args.in.dtype && args.branch.dtype == args.in.dtype,
             "residual: dtypes differ");
  GPT2_CHECK(args.in.rows() % args.time == 0, "residual: ", args.in.rows(), " rows of time ",
             args.time);
  launch(exec, "residual_forward", exec.kernels().residual_forward, args);
}

void dropout_backward(const Exec& exec, const DropoutBackward& args) {
  GPT2_CHECK(args.out.shape == args.in.shape && args.out.dtype == args.in.dtype,
             "dropout_backward: out ", args.out.shape, ", in ", args.in.shape);
  GPT2_CHECK(args.in.rows() % args.time == 0, "dropout_backward: ", args.in.rows(),
             " rows of time ", args.time);
  launch(exec, "dropout_backward", exec.kernels().dropout_backward, args);
}

}  // namespace gpt2train::ops
