// Matrix products by oneDNN. Where it has no bf16 product for this processor, tiles are widened to
// fp32, multiplied and rounded once. Packing buffers that oneDNN's fp32 GEMM allocates for itself,
// a few MiB, are the one thing here that no ledger sees.
#include "kernels/matmul.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

using Type = dnnl::memory::data_type;

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

Type type_of(DType dtype) {
  return dtype == DType::kBFloat16 ? Type::bf16 : Type::f32;
}

// ---- primitives, one a shape ------------------------------------------------------------------

struct Problem {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false;
  DType in = DType::kFloat32, out = DType::kFloat32;

  auto key() const {
    return std::tie(m, n, k, transpose_a, transpose_b, accumulate, bias, in, out);
  }
  bool operator<(const Problem& other) const { return key() < other.key(); }
};

Problem problem_of(const Matmul& args) {
  return {.m = args.out.rows(),
          .n = args.out.width(),
          .k = args.transpose_a ? args.a.rows() : args.a.width(),
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .accumulate = args.accumulate,
          .bias = args.bias.present(),
          .in = args.a.dtype,
          .out = args.out.dtype};
}

dnnl::memory::desc matrix(std::int64_t rows, std::int64_t columns, DType dtype, bool transposed) {
  using Dims = dnnl::memory::dims;
  const Dims strides = transposed ? Dims{1, rows} : Dims{columns, 1};
  return {Dims{rows, columns}, type_of(dtype), strides};
}

// Empty where oneDNN has no such product on this processor.
std::optional<dnnl::matmul::primitive_desc> describe(const Problem& p) {
  const auto a = matrix(p.m, p.k, p.in, p.transpose_a);
  const auto b = matrix(p.k, p.n, p.in, p.transpose_b);
  const auto out = matrix(p.m, p.n, p.out, false);
  const auto bias = matrix(1, p.n, p.in, false);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (p.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  try {
#if DNNL_VERSION_MAJOR >= 3
    if (p.bias) return dnnl::matmul::primitive_desc(engine(), a, b, bias, out, attributes);
    return dnnl::matmul::primitive_desc(engine(), a, b, out, attributes);
#else
    using Desc = dnnl::matmul::desc;
    return dnnl::matmul::primitive_desc(p.bias ? Desc(a, b, bias, out) : Desc(a, b, out),
                                        attributes, engine());
#endif
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    return std::nullopt;
  }
}

// What is known of one problem. The primitive, whose code is generated, waits for the first
// product.
struct Entry {
  std::optional<dnnl::matmul::primitive_desc> description;
  std::optional<dnnl::matmul> primitive;

  std::size_t scratch_bytes() const { return description->scratchpad_desc().get_size(); }
};

Entry& entry_of(const Problem& problem) {
  static std::mutex mutex;
  static std::map<Problem, std::unique_ptr<Entry>> entries;
  const std::lock_guard lock(mutex);
  std::unique_ptr<Entry>& entry = entries[problem];
  if (!entry)
    entry = std::make_unique<Entry>(Entry{.description = describe(problem), .primitive = {}});
  return *entry;
}

void execute(const Problem& problem, void* out, const void* a, const void* b, const void* bias,
             void* scratch) {
  Entry& entry = entry_of(problem);
  if (!entry.primitive) entry.primitive.emplace(*entry.description);
  const auto& description = *entry.description;
  static dnnl::stream stream(engine());
  const auto memory = [](const dnnl::memory::desc& desc, const void* data) {
    return dnnl::memory(desc, engine(), const_cast<void*>(data));
  };
  std::unordered_map<int, dnnl::memory> arguments{
      {DNNL_ARG_SRC, memory(description.src_desc(), a)},
      {DNNL_ARG_WEIGHTS, memory(description.weights_desc(), b)},
      {DNNL_ARG_DST, memory(description.dst_desc(), out)}};
  if (bias != nullptr) arguments.emplace(DNNL_ARG_BIAS, memory(description.bias_desc(), bias));
  if (entry.scratch_bytes() > 0) {
    arguments.emplace(DNNL_ARG_SCRATCHPAD, memory(description.scratchpad_desc(), scratch));
  }
  entry.primitive->execute(stream, arguments);
  stream.wait();
}

// ---- bf16 by tiles of fp32 --------------------------------------------------------------------

constexpr std::int64_t kTile = 1024;

// The product of one tile: sums over k stay in the fp32 tile of the output.
Problem tile_problem(const Problem& p, std::int64_t m, std::int64_t n, std::int64_t k,
                     bool accumulate) {
  return {.m = m,
          .n = n,
          .k = k,
          .transpose_a = p.transpose_a,
          .transpose_b = p.transpose_b,
          .accumulate = accumulate};
}

struct TileSpace {
  std::size_t a, b, out, scratch;  // bytes
  std::size_t total() const { return a + b + out + scratch; }
};

TileSpace tile_space(const Problem& p) {
  const auto bytes = [](std::int64_t rows, std::int64_t columns) {
    const auto count = static_cast<std::size_t>(std::min(rows, kTile) * std::min(columns, kTile));
    return (count * sizeof(float) + 511) / 512 * 512;
  };
  TileSpace space{.a = bytes(p.m, p.k), .b = bytes(p.k, p.n), .out = bytes(p.m, p.n), .scratch = 0};
  const auto sizes = [](std::int64_t size) {  // of whole tiles and of the last one
    return std::array{std::min(size, kTile),
                      size % kTile == 0 ? std::min(size, kTile) : size % kTile};
  };
  for (const std::int64_t m : sizes(p.m)) {
    for (const std::int64_t n : sizes(p.n)) {
      for (const std::int64_t k : sizes(p.k)) {
        for (const bool accumulate : {false, true}) {
          const Entry& entry = entry_of(tile_problem(p, m, n, k, accumulate));
          space.scratch = std::max(space.scratch, entry.scratch_bytes());
        }
      }
    }
  }
  return space;
}

void widen(float* to, const bf16* from, std::int64_t rows, std::int64_t columns,
           std::int64_t stride) {
#pragma omp parallel for
  for (std::int64_t row = 0; row < rows; ++row) {
    simd::for_each(columns, [&](std::int64_t i, auto lanes) {
      simd::store(to + row * columns + i, simd::load(from + row * stride + i, lanes), lanes);
    });
  }
}

// out = tile + bias, or out += tile, where `out` is the tile's corner in a matrix of this stride.
template <class T>
void finish(T* out, std::int64_t stride, const float* tile, const bf16* bias, std::int64_t rows,
            std::int64_t columns, bool accumulate) {
#pragma omp parallel for
  for (std::int64_t row = 0; row < rows; ++row) {
    simd::for_each(columns, [&](std::int64_t i, auto lanes) {
      simd::Floats x = simd::load(tile + row * columns + i, lanes);
      if (bias != nullptr) x += simd::load(bias + i, lanes);
      if (accumulate) x += simd::load(out + row * stride + i, lanes);
      simd::store(out + row * stride + i, x, lanes);
    });
  }
}

template <class T>
void multiply_tiles(const Matmul& args, const Problem& p) {
  const TileSpace space = tile_space(p);
  char* const begin = static_cast<char*>(args.workspace.data);
  auto* const a_tile = reinterpret_cast<float*>(begin);
  auto* const b_tile = reinterpret_cast<float*>(begin + space.a);
  auto* const out_tile = reinterpret_cast<float*>(begin + space.a + space.b);
  void* const scratch = begin + space.a + space.b + space.out;

  const std::int64_t a_stride = p.transpose_a ? p.m : p.k, b_stride = p.transpose_b ? p.k : p.n;
  const bf16* const a = args.a.as<bf16>();
  const bf16* const b = args.b.as<bf16>();
  for (std::int64_t m = 0; m < p.m; m += kTile) {
    const std::int64_t rows = std::min(kTile, p.m - m);
    for (std::int64_t n = 0; n < p.n; n += kTile) {
      const std::int64_t columns = std::min(kTile, p.n - n);
      for (std::int64_t k = 0; k < p.k; k += kTile) {
        const std::int64_t depth = std::min(kTile, p.k - k);
        if (p.transpose_a) {
          widen(a_tile, a + k * a_stride + m, depth, rows, a_stride);
        } else {
          widen(a_tile, a + m * a_stride + k, rows, depth, a_stride);
        }
        if (p.transpose_b) {
          widen(b_tile, b + n * b_stride + k, columns, depth, b_stride);
        } else {
          widen(b_tile, b + k * b_stride + n, depth, columns, b_stride);
        }
        execute(tile_problem(p, rows, columns, depth, k > 0), out_tile, a_tile, b_tile, nullptr,
                scratch);
      }
      const bf16* const bias = args.bias.as_or_null<bf16>();
      finish(args.out.as<T>() + m * p.n + n, p.n, out_tile, bias == nullptr ? nullptr : bias + n,
             rows, columns, p.accumulate);
    }
  }
}

}  // namespace

// ---- entry points -----------------------------------------------------------------------------

std::size_t matmul_workspace(const Matmul& args) {
  const Problem problem = problem_of(args);
  const Entry& entry = entry_of(problem);
  return entry.description ? entry.scratch_bytes() : tile_space(problem).total();
}

void matmul(const Matmul& args, Stream) {
  const Problem problem = problem_of(args);
  if (entry_of(problem).description) {
    execute(problem, args.out.data, args.a.data, args.b.data, args.bias.data, args.workspace.data);
    return;
  }
  dispatch_float(args.out.dtype, "matmul", [&]<class T>() { multiply_tiles<T>(args, problem); });
}

}  // namespace gpt2train::cpu
