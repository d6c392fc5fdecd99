#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"
#include "src/ops/scratch.h"

namespace gpt2train::ops {
namespace {

void check_heads(const TensorView& out, const TensorView& lse, const TensorView& qkv, int heads) {
  GPT2_CHECK(out.shape.rank() == 3, "attention: out ", out.shape, " is not (B, T, C)");
  const std::int64_t batch = out.shape[0], time = out.shape[1], width = out.shape[2];
  GPT2_CHECK(heads > 0 && width % heads == 0, "attention: ", heads, " heads in width ", width);
  GPT2_CHECK(qkv.shape == (Shape{batch, time, 3 * width}) && qkv.dtype == out.dtype,
             "attention: qkv ", qkv.shape, " for out ", out.shape);
  GPT2_CHECK(lse.shape == (Shape{batch, heads, time}) && lse.dtype == DType::kFloat32,
             "attention: lse ", lse.shape, " for out ", out.shape, " and ", heads, " heads");
}

}  // namespace

void attention_forward(const Exec& exec, AttentionForward args) {
  check_heads(args.out, args.lse, args.qkv, args.heads);
  const Buffer scratch = take_workspace(exec, exec.kernels().attention_forward_workspace, args,
                                        "attention_forward_scratch");
  launch(exec, "attention_forward", exec.kernels().attention_forward, args);
}

void attention_backward(const Exec& exec, AttentionBackward args) {
  check_heads(args.out, args.lse, args.qkv, args.heads);
  GPT2_CHECK(args.d_out.shape == args.out.shape && args.d_out.dtype == args.out.dtype &&
                 args.d_qkv.shape == args.qkv.shape && args.d_qkv.dtype == args.qkv.dtype,
             "attention_backward: d_out ", args.d_out.shape, ", d_qkv ", args.d_qkv.shape);
  const Buffer scratch = take_workspace(exec, exec.kernels().attention_backward_workspace, args,
                                        "attention_backward_scratch");
  launch(exec, "attention_backward", exec.kernels().attention_backward, args);
}

}  // namespace gpt2train::ops
