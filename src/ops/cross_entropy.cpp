#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"

namespace gpt2train::ops {

void cross_entropy(const Exec& exec, const CrossEntropy& args) {
  const std::int64_t rows = args.logits.rows();
  GPT2_CHECK(args.losses.count() == rows && args.losses.dtype == DType::kFloat32,
             "cross_entropy: losses ", args.losses.shape, " for logits ", args.logits.shape);
  GPT2_CHECK(args.targets.count() == rows && args.targets.dtype == DType::kInt32,
             "cross_entropy: targets ", args.targets.shape, " for logits ", args.logits.shape);
  GPT2_CHECK(args.vocab > 0 && args.vocab <= args.logits.width(), "cross_entropy: vocabulary ",
             args.vocab, " in logits ", args.logits.shape);
  launch(exec, "cross_entropy", exec.kernels().cross_entropy, args);
}

void loss_sum(const Exec& exec, const LossSum& args) {
  GPT2_CHECK(args.cell.count() == 1 && args.cell.dtype == DType::kFloat32 &&
                 args.losses.dtype == DType::kFloat32,
             "loss_sum: cell ", args.cell.shape);
  launch(exec, "loss_sum", exec.kernels().loss_sum, args);
}

}  // namespace gpt2train::ops
