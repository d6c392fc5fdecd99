#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"

namespace gpt2train::ops {

void fill(const Exec& exec, const Fill& args) {
  launch(exec, "fill", exec.kernels().fill, args);
}

void cast(const Exec& exec, const Cast& args) {
  GPT2_CHECK(args.out.count() == args.in.count(), "cast: ", args.in.shape, " to ", args.out.shape);
  launch(exec, "cast", exec.kernels().cast, args);
}

void upload(const Exec& exec, const TensorView& to, const void* from) {
  if (exec.dry_run()) return;
  exec.kernels().upload(to.data, from, to.bytes(), exec.stream());
}

void download(const Exec& exec, void* to, const TensorView& from) {
  if (exec.dry_run()) return;
  exec.kernels().download(to, from.data, from.bytes(), exec.stream());
}

}  // namespace gpt2train::ops
