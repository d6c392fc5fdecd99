#include "gpt2train/core/moment_code.h"
#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"
#include "src/ops/scratch.h"

namespace gpt2train::ops {
namespace {

void check_state(const TensorView& state) {
  GPT2_CHECK(state.count() == kGradStateCount && state.dtype == DType::kFloat32,
             "gradient state: ", state.shape);
}

// What an update reads and writes is fp32, or bf16 rounded stochastically.
bool updatable(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16;
}

// Or, where it is a moment, eight-bit codes.
void check_moments(const AdamW& args) {
  const std::int64_t count = args.weights.count();
  const bool codes = args.m.dtype == DType::kInt8;
  for (const TensorView& view : {args.m, args.v}) {
    GPT2_CHECK(view.count() == count && (codes || updatable(view.dtype)), "adamw: moments ",
               view.shape, ' ', name_of(view.dtype), " for ", count, " weights");
  }
  GPT2_CHECK(args.v.dtype == (codes ? DType::kUInt8 : args.m.dtype), "adamw: moments are ",
             name_of(args.m.dtype), " and ", name_of(args.v.dtype));
  if (!codes) return;
  for (const TensorView& view : {args.m_scales, args.v_scales}) {
    GPT2_CHECK(view.count() == code_blocks(count) && view.dtype == DType::kFloat32,
               "adamw: scales ", view.shape, ' ', name_of(view.dtype), " for ", count, " weights");
  }
}

}  // namespace

void grad_norm(const Exec& exec, GradNorm args) {
  check_state(args.state);
  GPT2_CHECK(args.gradients.dtype == DType::kFloat32, "grad_norm: gradients are ",
             name_of(args.gradients.dtype));
  const Buffer scratch =
      take_workspace(exec, exec.kernels().grad_norm_workspace, args, "grad_norm_scratch");
  launch(exec, "grad_norm", exec.kernels().grad_norm, args);
}

void adamw(const Exec& exec, const AdamW& args) {
  check_state(args.state);
  const std::int64_t count = args.weights.count();
  GPT2_CHECK(args.gradients.count() == count && args.gradients.dtype == DType::kFloat32,
             "adamw: gradients ", args.gradients.shape, ' ', name_of(args.gradients.dtype), " for ",
             count, " weights");
  check_moments(args);
  GPT2_CHECK(args.masters.present()
                 ? args.masters.count() == count && args.masters.dtype == DType::kFloat32
                 : updatable(args.weights.dtype),
             "adamw: weights are ", name_of(args.weights.dtype), ", masters ", args.masters.shape);
  std::int64_t end = 0;
  for (const DecayRange& range : args.ranges) {
    GPT2_CHECK(range.begin == end && range.end > range.begin, "adamw: range [", range.begin, ", ",
               range.end, ") after ", end);
    end = range.end;
  }
  GPT2_CHECK(end == count && args.update >= 1, "adamw: ranges end at ", end, " of ", count,
             ", update ", args.update);
  launch(exec, "adamw", exec.kernels().adamw, args);
}

}  // namespace gpt2train::ops
