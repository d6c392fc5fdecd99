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

void attention_cached(const Exec& exec, const AttentionCached& args) {
  const TensorView &out = args.out, &k = args.k;
  GPT2_CHECK(out.shape.rank() == 3, "attention_cached: out ", out.shape, " is not (B, T, C)");
  const std::int64_t batch = out.shape[0], time = out.shape[1], width = out.shape[2];
  GPT2_CHECK(args.heads > 0 && width % args.heads == 0, "attention_cached: ", args.heads,
             " heads in width ", width);
  GPT2_CHECK(args.qkv.shape == (Shape{batch, time, 3 * width}) && args.qkv.dtype == out.dtype,
             "attention_cached: qkv ", args.qkv.shape, " for out ", out.shape);
  GPT2_CHECK(k.shape.rank() == 3 && k.shape == (Shape{batch, k.shape[1], width}) &&
                 args.v.shape == k.shape && k.dtype == out.dtype && args.v.dtype == out.dtype,
             "attention_cached: caches ", k.shape, " and ", args.v.shape, " for out ", out.shape);
  GPT2_CHECK(args.position >= 0 && args.position + time <= k.shape[1], "attention_cached: ", time,
             " tokens at ", args.position, " in a cache of ", k.shape[1]);
  launch(exec, "attention_cached", exec.kernels().attention_cached, args);
}

}  // namespace gpt2train::ops
