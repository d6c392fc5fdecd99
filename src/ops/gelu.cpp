#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"

namespace gpt2train::ops {

void gelu_forward(const Exec& exec, const GeluForward& args) {
  GPT2_CHECK(args.out.shape == args.in.shape && args.out.dtype == args.in.dtype, "gelu: out is ",
             args.out.shape, ", in is ", args.in.shape);
  launch(exec, "gelu_forward", exec.kernels().gelu_forward, args);
}

void gelu_backward(const Exec& exec, const GeluBackward& args) {
  GPT2_CHECK(args.d_in.shape == args.in.shape && args.d_out.shape == args.in.shape,
             "gelu_backward: d_in ", args.d_in.shape, ", d_out ", args.d_out.shape, ", in ",
             args.in.shape);
  GPT2_CHECK(args.d_in.dtype == args.in.dtype && args.d_out.dtype == args.in.dtype,
             "gelu_backward: dtypes differ");
  launch(exec, "gelu_backward", exec.kernels().gelu_backward, args);
}

}  // namespace gpt2train::ops
