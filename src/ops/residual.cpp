#include "gpt2train/ops/ops.h"

namespace gpt2train::ops {

void residual_forward(const Exec& exec, const ResidualForward& args) {
  GPT2_CHECK(args.out.shape == args.in.shape && args.branch.shape == args.in.shape,
             "residual: out ", args.out.shape, " = ", args.in.shape, " + ", args.branch.shape);
  GPT2_CHECK(args.out.dtype == args.in.dtype && args.branch.dtype == args.in.dtype,
             "residual: dtypes differ");
  GPT2_CHECK(args.in.rows() % args.time == 0, "residual: ", args.in.rows(), " rows of time ",
             args.time);
  if (exec.dry_run()) return;
  exec.kernels().residual_forward(args, exec.stream());
}

void dropout_backward(const Exec& exec, const DropoutBackward& args) {
  GPT2_CHECK(args.out.shape == args.in.shape && args.out.dtype == args.in.dtype,
             "dropout_backward: out ", args.out.shape, ", in ", args.in.shape);
  GPT2_CHECK(args.in.rows() % args.time == 0, "dropout_backward: ", args.in.rows(),
             " rows of time ", args.time);
  if (exec.dry_run()) return;
  exec.kernels().dropout_backward(args, exec.stream());
}

}  // namespace gpt2train::ops
