// matmul/cpu_{fp32,bf16}_{forward,input,weight}/m/n/k: the three products of a linear layer, as
// kernels/matmul.h names them; m, n and k are those of the product itself.
#include <benchmark/benchmark.h>

#include "bench/bench_tensors.h"
#include "kernels/table.h"

namespace gpt2train::bench {
namespace {

struct Product {
  DType dtype;
  bool transpose_a;
  bool transpose_b;
};

// rows: B * T; the layer maps `in` columns to `out`.
void matmul(benchmark::State& state, const Product& product) {
  const std::int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const auto [dtype, transpose_a, transpose_b] = product;
  const Tensor a(dtype, transpose_a ? Shape{k, m} : Shape{m, k});
  const Tensor b(dtype, transpose_b ? Shape{n, k} : Shape{k, n});
  const Tensor out(transpose_a ? DType::kFloat32 : dtype, {m, n});
  Matmul args = {.out = out,
                 .a = a,
                 .b = b,
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .accumulate = transpose_a};
  Scratch scratch(cpu_kernels().matmul_workspace(args));
  args.workspace = scratch.workspace();
  cpu_kernels().matmul(args, {});  // generates the code
  for (auto _ : state) cpu_kernels().matmul(args, {});
  report_flops(state, 2.0 * static_cast<double>(m * n * k));
  state.counters["scratch"] =
      benchmark::Counter(static_cast<double>(args.workspace.bytes), benchmark::Counter::kDefaults,
                         benchmark::Counter::kIs1024);
}

// 1,024 tokens of GPT-2 124M through its first MLP layer and its head; nanoGPT's CPU setting.
constexpr std::int64_t kLayers[][3] = {{1024, 768, 3072}, {1024, 768, 50304}, {768, 128, 512}};

void forward(benchmark::internal::Benchmark* bench) {
  for (const auto& [rows, in, out] : kLayers) bench->Args({rows, out, in});
}
void input(benchmark::internal::Benchmark* bench) {
  for (const auto& [rows, in, out] : kLayers) bench->Args({rows, in, out});
}
void weight(benchmark::internal::Benchmark* bench) {
  for (const auto& [rows, in, out] : kLayers) bench->Args({out, in, rows});
}

#define GPT2_MATMUL_BENCH(name, dtype)                                   \
  BENCHMARK_CAPTURE(matmul, name##_forward, Product{dtype, false, true}) \
      ->Apply(forward)                                                   \
      ->UseRealTime()                                                    \
      ->Unit(benchmark::kMillisecond);                                   \
  BENCHMARK_CAPTURE(matmul, name##_input, Product{dtype, false, false})  \
      ->Apply(input)                                                     \
      ->UseRealTime()                                                    \
      ->Unit(benchmark::kMillisecond);                                   \
  BENCHMARK_CAPTURE(matmul, name##_weight, Product{dtype, true, false})  \
      ->Apply(weight)                                                    \
      ->UseRealTime()                                                    \
      ->Unit(benchmark::kMillisecond)
GPT2_MATMUL_BENCH(cpu_fp32, DType::kFloat32);
GPT2_MATMUL_BENCH(cpu_bf16, DType::kBFloat16);

}  // namespace
}  // namespace gpt2train::bench

BENCHMARK_MAIN();
