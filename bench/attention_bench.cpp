// attention_{forward,backward}/cpu_{fp32,bf16}/B/H/T/head size. FLOP/s counts the causal half only:
// two products in the forward pass, five in the backward pass.
#include <benchmark/benchmark.h>

#include "bench/bench_tensors.h"
#include "kernels/table.h"

namespace gpt2train::bench {
namespace {

struct Sizes {
  explicit Sizes(const benchmark::State& state)
      : batch(state.range(0)),
        heads(state.range(1)),
        time(state.range(2)),
        width(state.range(3) * heads) {}
  Shape out() const { return {batch, time, width}; }
  Shape qkv() const { return {batch, time, 3 * width}; }
  Shape lse() const { return {batch, heads, time}; }
  double flops(int products) const {
    return static_cast<double>(products * batch * width * time * (time + 1));
  }

  std::int64_t batch, heads, time, width;
};

AttentionForward forward_args(const Sizes& s, const Tensor& out, const Tensor& lse,
                              const Tensor& qkv) {
  return {.out = out, .lse = lse, .qkv = qkv, .heads = static_cast<int>(s.heads)};
}

void attention_forward(benchmark::State& state, DType dtype) {
  const Sizes s(state);
  const Tensor out(dtype, s.out()), lse(DType::kFloat32, s.lse()), qkv(dtype, s.qkv());
  AttentionForward args = forward_args(s, out, lse, qkv);
  Scratch scratch(cpu_kernels().attention_forward_workspace(args));
  args.workspace = scratch.workspace();
  for (auto _ : state) cpu_kernels().attention_forward(args, {});
  report_flops(state, s.flops(2));
}

void attention_backward(benchmark::State& state, DType dtype) {
  const Sizes s(state);
  const Tensor out(dtype, s.out()), lse(DType::kFloat32, s.lse()), qkv(dtype, s.qkv());
  const Tensor d_out(dtype, s.out()), d_qkv(dtype, s.qkv());
  AttentionForward forward = forward_args(s, out, lse, qkv);
  Scratch forward_scratch(cpu_kernels().attention_forward_workspace(forward));
  forward.workspace = forward_scratch.workspace();
  cpu_kernels().attention_forward(forward, {});

  AttentionBackward args = {.d_qkv = d_qkv,
                            .d_out = d_out,
                            .out = out,
                            .lse = lse,
                            .qkv = qkv,
                            .heads = static_cast<int>(s.heads)};
  Scratch scratch(cpu_kernels().attention_backward_workspace(args));
  args.workspace = scratch.workspace();
  for (auto _ : state) cpu_kernels().attention_backward(args, {});
  report_flops(state, s.flops(5));
}

// Two shapes of GPT-2 124M, nanoGPT's CPU setting, and the head sizes of larger models.
void shapes(benchmark::internal::Benchmark* bench) {
  bench->UseRealTime()->Unit(benchmark::kMillisecond);
  bench->Args({1, 12, 1024, 64})->Args({4, 12, 256, 64})->Args({12, 4, 64, 32});
  bench->Args({1, 20, 1024, 80})->Args({1, 16, 1024, 128});
}

BENCHMARK_CAPTURE(attention_forward, cpu_fp32, DType::kFloat32)->Apply(shapes);
BENCHMARK_CAPTURE(attention_backward, cpu_fp32, DType::kFloat32)->Apply(shapes);
BENCHMARK_CAPTURE(attention_forward, cpu_bf16, DType::kBFloat16)->Apply(shapes);
BENCHMARK_CAPTURE(attention_backward, cpu_bf16, DType::kBFloat16)->Apply(shapes);

}  // namespace
}  // namespace gpt2train::bench

BENCHMARK_MAIN();
