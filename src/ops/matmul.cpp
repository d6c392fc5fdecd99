#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"
#include "src/ops/scratch.h"

namespace gpt2train::ops {

void matmul(const Exec& exec, Matmul args) {
  const std::int64_t m = args.transpose_a ? args.a.width() : args.a.rows();
  const std::int64_t k = args.transpose_a ? args.a.rows() : args.a.width();
  const std::int64_t b_k = args.transpose_b ? args.b.width() : args.b.rows();
  const std::int64_t n = args.transpose_b ? args.b.rows() : args.b.width();
  GPT2_CHECK(k == b_k && args.out.rows() == m && args.out.width() == n, "matmul: out ",
             args.out.shape, " from ", args.a.shape, args.transpose_a ? "^T" : "", " and ",
             args.b.shape, args.transpose_b ? "^T" : "");
  GPT2_CHECK(args.a.dtype == args.b.dtype, "matmul: a is ", name_of(args.a.dtype), ", b is ",
             name_of(args.b.dtype));
  GPT2_CHECK(args.out.dtype == args.a.dtype || args.out.dtype == DType::kFloat32, "matmul: out is ",
             name_of(args.out.dtype), " from ", name_of(args.a.dtype));
  GPT2_CHECK(!args.bias.present() ||
                 (args.bias.count() == n && args.bias.dtype == args.a.dtype && !args.accumulate),
             "matmul: bias ", args.bias.shape, " for ", n, " columns");
  args.tf32 = exec.matmul().tf32;
  args.tune = exec.matmul().tune;
  const Buffer scratch =
      take_workspace(exec, exec.kernels().matmul_workspace, args, "matmul_scratch");
  launch(exec, "matmul", exec.kernels().matmul, args);
}

void bias_backward(const Exec& exec, BiasBackward args) {
  GPT2_CHECK(args.d_bias.dtype == DType::kFloat32 && args.d_bias.count() == args.d_out.width(),
             "bias_backward: d_bias ", args.d_bias.shape, " for d_out ", args.d_out.shape);
  const Buffer scratch =
      take_workspace(exec, exec.kernels().bias_backward_workspace, args, "bias_backward_scratch");
  launch(exec, "bias_backward", exec.kernels().bias_backward, args);
}

}  // namespace gpt2train::ops
