// Matrix products by oneDNN. Where it has no bf16 product for this processor, tiles are widened to
// fp32, multiplied and rounded once. Packing buffers that oneDNN's fp32 GEMM takes from the heap
// for itself are the one thing here that no ledger sees: kStrip.
#include "kernels/matmul.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <compare>
#include <map>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/matmul_few_rows.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

// ---- primitives, one a problem ------------------------------------------------------------------

// All that oneDNN's code depends on. Strides count elements, from one stored row to the next.
struct Problem {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t a_stride = 0, b_stride = 0, out_stride = 0;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false;
  DType in = DType::kFloat32, out = DType::kFloat32;
  int threads = omp_get_max_threads();  // oneDNN divides the work when it describes it

  auto operator<=>(const Problem&) const = default;
};

Problem problem_of(const Matmul& args) {
  return {.m = args.out.rows(),
          .n = args.out.width(),
          .k = args.transpose_a ? args.a.rows() : args.a.width(),
          .a_stride = args.a.width(),
          .b_stride = args.b.width(),
          .out_stride = args.out.width(),
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .accumulate = args.accumulate,
          .bias = args.bias.present(),
          .in = args.a.dtype,
          .out = args.out.dtype};
}

dnnl::memory::desc matrix(std::int64_t rows, std::int64_t columns, std::int64_t stride,
                          bool transposed, DType dtype) {
  using Dims = dnnl::memory::dims;
  using Type = dnnl::memory::data_type;
  return {Dims{rows, columns}, dtype == DType::kBFloat16 ? Type::bf16 : Type::f32,
          transposed ? Dims{1, stride} : Dims{stride, 1}};
}

using Description = dnnl::matmul::primitive_desc;

// Empty where oneDNN has no such product on this processor, or only its reference loops.
std::optional<Description> describe(const Problem& p) {
  const auto a = matrix(p.m, p.k, p.a_stride, p.transpose_a, p.in);
  const auto b = matrix(p.k, p.n, p.b_stride, p.transpose_b, p.in);
  const auto out = matrix(p.m, p.n, p.out_stride, false, p.out);
  const auto bias = matrix(1, p.n, p.n, false, p.in);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (p.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  try {
#if DNNL_VERSION_MAJOR >= 3
    const Description description = p.bias ? Description(engine(), a, b, bias, out, attributes)
                                           : Description(engine(), a, b, out, attributes);
#else
    using Operation = dnnl::matmul::desc;
    const Description description(p.bias ? Operation(a, b, bias, out) : Operation(a, b, out),
                                  attributes, engine());
#endif
    const bool reference = std::string_view(description.impl_info_str()).starts_with("ref");
    if (p.in == DType::kBFloat16 && reference) return std::nullopt;
    return description;
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    return std::nullopt;
  }
}

// What is known of one problem. The primitive, whose code is generated, waits for the first
// product, so a dry run makes none. Not for two threads at once: a device has one stream.
class Entry {
 public:
  explicit Entry(const Problem& problem) : description_(describe(problem)) {}

  bool exists() const { return description_.has_value(); }
  std::size_t scratch_bytes() const { return description_->scratchpad_desc().get_size(); }

  void execute(void* out, const void* a, const void* b, const void* bias, void* scratch) {
    if (!primitive_) prepare(bias != nullptr);
    const auto set = [this](int which, const void* data) {
      arguments_.at(which).set_data_handle(const_cast<void*>(data));
    };
    set(DNNL_ARG_SRC, a);
    set(DNNL_ARG_WEIGHTS, b);
    set(DNNL_ARG_DST, out);
    if (bias != nullptr) set(DNNL_ARG_BIAS, bias);
    if (scratch_bytes() > 0) set(DNNL_ARG_SCRATCHPAD, scratch);
    static dnnl::stream stream(engine());
    primitive_->execute(stream, arguments_);
    stream.wait();
  }

 private:
  void prepare(bool has_bias) {
    primitive_.emplace(*description_);
    const auto add = [this](int which, const dnnl::memory::desc& desc) {
      arguments_.emplace(which, dnnl::memory(desc, engine(), nullptr));
    };
    add(DNNL_ARG_SRC, description_->src_desc());
    add(DNNL_ARG_WEIGHTS, description_->weights_desc());
    add(DNNL_ARG_DST, description_->dst_desc());
    if (has_bias) add(DNNL_ARG_BIAS, description_->bias_desc());
    if (scratch_bytes() > 0) add(DNNL_ARG_SCRATCHPAD, description_->scratchpad_desc());
  }

  std::optional<Description> description_;
  std::optional<dnnl::matmul> primitive_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

std::shared_ptr<Entry> entry_of(const Problem& problem) {
  constexpr std::size_t kMaxEntries = 256;  // a model needs a few dozen
  static std::mutex mutex;
  static std::map<Problem, std::shared_ptr<Entry>> entries;
  const std::lock_guard lock(mutex);
  if (const auto found = entries.find(problem); found != entries.end()) return found->second;
  if (entries.size() == kMaxEntries) entries.clear();
  return entries.emplace(problem, std::make_shared<Entry>(problem)).first->second;
}

// ---- products that oneDNN has -------------------------------------------------------------------

// oneDNN's fp32 GEMM packs some 200 rows of all columns of b at once, on the heap: 30 MiB for the
// 50,304 columns of GPT-2's head. In strips of columns it takes at most 4 MiB (oneDNN 2.6, AVX2).
constexpr std::int64_t kStrip = 4096;

Problem strip_of(const Problem& p, std::int64_t column) {
  Problem strip = p;
  strip.n = std::min(kStrip, p.n - column);
  return strip;
}

void multiply_strips(const Matmul& args, const Problem& p) {
  const auto at = [](const TensorView& view, std::int64_t element) {
    return static_cast<char*>(view.data) + element * static_cast<std::int64_t>(size_of(view.dtype));
  };
  for (std::int64_t column = 0; column < p.n; column += kStrip) {
    entry_of(strip_of(p, column))
        ->execute(at(args.out, column), args.a.data,
                  at(args.b, p.transpose_b ? column * p.b_stride : column),
                  p.bias ? at(args.bias, column) : nullptr, args.workspace.data);
  }
}

// ---- bf16 by tiles of fp32 ----------------------------------------------------------------------

constexpr std::int64_t kTile = 1024;

// The product of one tile: sums over k stay in the fp32 tile of the output.
Problem tile_problem(const Problem& p, std::int64_t m, std::int64_t n, std::int64_t k,
                     bool accumulate) {
  return {.m = m,
          .n = n,
          .k = k,
          .a_stride = p.transpose_a ? m : k,
          .b_stride = p.transpose_b ? k : n,
          .out_stride = n,
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
    return std::array{std::min(size, kTile), (size - 1) % kTile + 1};
  };
  for (const std::int64_t m : sizes(p.m)) {
    for (const std::int64_t n : sizes(p.n)) {
      for (const std::int64_t k : sizes(p.k)) {
        for (const bool accumulate : {false, p.k > kTile}) {
          const auto entry = entry_of(tile_problem(p, m, n, k, accumulate));
          space.scratch = std::max(space.scratch, entry->scratch_bytes());
        }
      }
    }
  }
  return space;
}

// A factor in bf16, and the tile of it that is widened. Element (i, j) is at [i * stride + j], or
// at [j * stride + i] when transposed; the tile is stored the same way.
class WidenedTile {
 public:
  WidenedTile(float* tile, const bf16* matrix, std::int64_t stride, bool transposed)
      : tile_(tile), matrix_(matrix), stride_(stride), transposed_(transposed) {}

  const float* load(std::int64_t i, std::int64_t j, std::int64_t rows, std::int64_t columns) {
    if (transposed_) {
      std::swap(i, j);
      std::swap(rows, columns);
    }
    const bf16* const corner = matrix_ + i * stride_ + j;
    if (corner == loaded_) return tile_;  // as when one tile of a meets many of b
    loaded_ = corner;
#pragma omp parallel for schedule(static) if (rows * columns > kParallelWork)
    for (std::int64_t row = 0; row < rows; ++row) {
      simd::for_each(columns, [&](std::int64_t column, auto lanes) {
        simd::store(tile_ + row * columns + column,
                    simd::load(corner + row * stride_ + column, lanes), lanes);
      });
    }
    return tile_;
  }

 private:
  float* tile_;
  const bf16* matrix_;
  std::int64_t stride_;
  bool transposed_;
  const bf16* loaded_ = nullptr;
};

// out = tile + bias, or out += tile, where `out` is the tile's corner in a matrix of this stride.
template <class T>
void finish(T* out, std::int64_t stride, const float* tile, const bf16* bias, std::int64_t rows,
            std::int64_t columns, bool accumulate) {
#pragma omp parallel for schedule(static) if (rows * columns > kParallelWork)
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
  const auto floats = [&](std::size_t offset) { return reinterpret_cast<float*>(begin + offset); };
  WidenedTile a(floats(0), args.a.as<bf16>(), p.a_stride, p.transpose_a);
  WidenedTile b(floats(space.a), args.b.as<bf16>(), p.b_stride, p.transpose_b);
  float* const out = floats(space.a + space.b);
  void* const scratch = begin + space.a + space.b + space.out;
  const bf16* const bias = args.bias.as_or_null<bf16>();

  for (std::int64_t m = 0; m < p.m; m += kTile) {
    const std::int64_t rows = std::min(kTile, p.m - m);
    for (std::int64_t n = 0; n < p.n; n += kTile) {
      const std::int64_t columns = std::min(kTile, p.n - n);
      for (std::int64_t k = 0; k < p.k; k += kTile) {
        const std::int64_t depth = std::min(kTile, p.k - k);
        entry_of(tile_problem(p, rows, columns, depth, k > 0))
            ->execute(out, a.load(m, k, rows, depth), b.load(k, n, depth, columns), nullptr,
                      scratch);
      }
      finish(args.out.as<T>() + m * p.n + n, p.n, out, bias == nullptr ? nullptr : bias + n, rows,
             columns, p.accumulate);
    }
  }
}

// ---- scratch ------------------------------------------------------------------------------------

std::size_t workspace_of(const Problem& p) {
  const auto first = entry_of(strip_of(p, 0));
  if (!first->exists()) return tile_space(p).total();
  const auto last = entry_of(strip_of(p, (p.n - 1) / kStrip * kStrip));
  return std::max(first->scratch_bytes(), last->scratch_bytes());
}

}  // namespace

// ---- entry points -------------------------------------------------------------------------------

// Remembered: dry runs of many plans ask for little else.
std::size_t matmul_workspace(const Matmul& args) {
  constexpr std::size_t kMaxKnown = 4096;
  thread_local std::map<Problem, std::size_t> known;
  if (has_few_rows(args)) return 0;
  const Problem p = problem_of(args);
  if (const auto found = known.find(p); found != known.end()) return found->second;
  if (known.size() == kMaxKnown) known.clear();
  return known[p] = workspace_of(p);
}

void matmul(const Matmul& args, Stream) {
  if (has_few_rows(args)) return matmul_few_rows(args);
  const Problem p = problem_of(args);
  if (entry_of(strip_of(p, 0))->exists()) return multiply_strips(args, p);
  dispatch_float(args.out.dtype, "matmul", [&]<class T>() { multiply_tiles<T>(args, p); });
}

}  // namespace gpt2train::cpu
