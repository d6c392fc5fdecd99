// Matrix products by cuBLASLt. It counts in columns: a row-major (rows, width) matrix is its
// (width, rows) one, so out = op(a) op(b) is asked for as out^T = op(b)^T op(a)^T, and no operand
// moves. Descriptions and algorithms are kept by shape; where `tune` asks for it, the algorithm is
// the one that was the fastest when each was tried.
#include "kernels/matmul.h"

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <compare>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/algorithm_cache.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_kernels.h"

namespace gpt2train::cuda {
namespace {

void check(cublasStatus_t status, const char* call, int line) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw DeviceError(
      concat(call, " at ", __FILE__, ':', line, ": ", cublasLtGetStatusString(status)));
}
#define GPT2_CUBLAS_CHECK(call) check((call), #call, __LINE__)

template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
struct Destroy {
  void operator()(Handle handle) const { static_cast<void>(kDestroy(handle)); }
};
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<Handle, kDestroy>>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cublasLtHandle_t handle() {
  static const cublasLtHandle_t kHandle = [] {
    cublasLtHandle_t made = nullptr;
    GPT2_CUBLAS_CHECK(cublasLtCreate(&made));
    return made;
  }();
  return kHandle;
}

cudaDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return CUDA_R_32F;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat16:
      return CUDA_R_16F;
    case DType::kInt32:
    case DType::kInt8:
    case DType::kUInt8:
      break;
  }
  throw InternalError(concat("matmul: no product for dtype ", name_of(dtype)));
}

struct Problem {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false, bias = false, tf32 = false;
  DType in = DType::kFloat32, out = DType::kFloat32;
  std::uint32_t a_alignment = 0, b_alignment = 0, out_alignment = 0;  // of the addresses, bytes

  auto operator<=>(const Problem&) const = default;
};

// What cuBLASLt may assume of an address: the largest power of two that divides it, up to 256.
std::uint32_t alignment_of(const TensorView& view) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.data) | 256;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

Problem problem_of(const Matmul& args) {
  return {.m = args.out.rows(),
          .n = args.out.width(),
          .k = args.transpose_a ? args.a.rows() : args.a.width(),
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .bias = args.bias.present(),
          .tf32 = args.tf32,
          .in = args.a.dtype,
          .out = args.out.dtype,
          .a_alignment = alignment_of(args.a),
          .b_alignment = alignment_of(args.b),
          .out_alignment = alignment_of(args.out)};
}

// Of a row-major matrix.
Layout layout_of(DType dtype, std::int64_t rows, std::int64_t width) {
  cublasLtMatrixLayout_t layout = nullptr;
  GPT2_CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, type_of(dtype),
                                               static_cast<std::uint64_t>(width),
                                               static_cast<std::uint64_t>(rows), width));
  return Layout(layout);
}

// A word for it, in files.
std::string name_of(const Problem& p) {
  const char* const layout =
      p.transpose_a ? (p.transpose_b ? "tt" : "tn") : (p.transpose_b ? "nt" : "nn");
  return concat(name_of(p.in), '-', name_of(p.out), '-', p.m, 'x', p.n, 'x', p.k, '-', layout,
                p.bias ? "-bias" : "", p.tf32 ? "-tf32" : "", '-', p.a_alignment, '-',
                p.b_alignment, '-', p.out_alignment);
}

AlgorithmCache& algorithms() {
  static AlgorithmCache only = [] {
    int device = 0;
    cudaDeviceProp properties = {};
    GPT2_CUDA_CHECK(cudaGetDevice(&device));
    GPT2_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    return AlgorithmCache(algorithm_cache_path(
        concat(properties.name, "-sm", properties.major, properties.minor), cublasLtGetVersion()));
  }();
  return only;
}

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  GPT2_CUDA_CHECK(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream.handle), &status));
  return status != cudaStreamCaptureStatusNone;
}

class Event {
 public:
  Event() { GPT2_CUDA_CHECK(cudaEventCreate(&event_)); }
  ~Event() { static_cast<void>(cudaEventDestroy(event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// The least of a few runs.
template <class Launch>
float milliseconds_of(Stream stream, const Launch& launch) {
  constexpr int kRuns = 3;
  const auto queue = static_cast<cudaStream_t>(stream.handle);
  const Event begin, end;
  float least = std::numeric_limits<float>::max();
  for (int i = 0; i < kRuns; ++i) {
    GPT2_CUDA_CHECK(cudaEventRecord(begin.get(), queue));
    launch();
    GPT2_CUDA_CHECK(cudaEventRecord(end.get(), queue));
    GPT2_CUDA_CHECK(cudaEventSynchronize(end.get()));
    float milliseconds = 0.0f;
    GPT2_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
    least = std::min(least, milliseconds);
  }
  return least;
}

class Product {
 public:
  explicit Product(const Problem& p)
      : name_(name_of(p)),
        a_(p.transpose_a ? layout_of(p.in, p.k, p.m) : layout_of(p.in, p.m, p.k)),
        b_(p.transpose_b ? layout_of(p.in, p.n, p.k) : layout_of(p.in, p.k, p.n)),
        out_(layout_of(p.out, p.m, p.n)) {
    cublasLtMatmulDesc_t operation = nullptr;
    const bool tf32 = p.tf32 && p.in == DType::kFloat32;
    GPT2_CUBLAS_CHECK(cublasLtMatmulDescCreate(
        &operation, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    operation_.reset(operation);
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (p.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(p.in));
    }
    find_candidates(p);
  }

  void run(const Matmul& args, Stream stream) {
    if (args.tune && !tuned_) tune(args, stream);
    launch(args, candidates_.front(), stream);
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    GPT2_CUBLAS_CHECK(
        cublasLtMatmulDescSetAttribute(operation_.get(), attribute, &value, sizeof value));
  }

  void launch(const Matmul& args, const cublasLtMatmulAlgo_t& algorithm, Stream stream) {
    if (args.bias.present()) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias.data);
    const float alpha = 1.0f, beta = args.accumulate ? 1.0f : 0.0f;
    GPT2_CUBLAS_CHECK(cublasLtMatmul(
        handle(), operation_.get(), &alpha, args.b.data, b_.get(), args.a.data, a_.get(), &beta,
        args.out.data, out_.get(), args.out.data, out_.get(), &algorithm, args.workspace.data,
        args.workspace.bytes, static_cast<cudaStream_t>(stream.handle)));
  }

  // What cuBLASLt thinks best within the workspace, the best first.
  void find_candidates(const Problem& p) {
    cublasLtMatmulPreference_t made = nullptr;
    GPT2_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&made));
    const Preference preference(made);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      GPT2_CUBLAS_CHECK(
          cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMatmulWorkspaceBytes);
    // Parts of a split sum are added in fp32, not in the type of the output.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.out_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.out_alignment);
    cublasLtMatmulHeuristicResult_t results[kMostCandidates] = {};
    int count = 0;
    GPT2_CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(handle(), operation_.get(), b_.get(), a_.get(),
                                                     out_.get(), out_.get(), made, kMostCandidates,
                                                     results, &count));
    for (int i = 0; i < count; ++i) {
      if (results[i].state == CUBLAS_STATUS_SUCCESS) candidates_.push_back(results[i].algo);
    }
    if (candidates_.empty()) throw DeviceError("cuBLASLt has no algorithm for a matrix product");
  }

  // Leaves one candidate: the one of an earlier run, or the fastest. A product that is added to
  // `out` cannot be tried twice, and a stream that captures runs nothing: those wait for another.
  void tune(const Matmul& args, Stream stream) {
    if (const AlgorithmWords* const words = algorithms().find(name_)) {
      const auto known = std::bit_cast<cublasLtMatmulAlgo_t>(*words);
      cublasLtMatmulHeuristicResult_t result = {};
      if (cublasLtMatmulAlgoCheck(handle(), operation_.get(), b_.get(), a_.get(), out_.get(),
                                  out_.get(), &known, &result) == CUBLAS_STATUS_SUCCESS &&
          result.workspaceSize <= kMatmulWorkspaceBytes) {
        return settle_on(known);
      }
    }
    if (args.accumulate || is_capturing(stream)) return;
    std::size_t fastest = 0;
    float least = std::numeric_limits<float>::max();
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      launch(args, candidates_[i], stream);  // its code is loaded
      const float milliseconds =
          milliseconds_of(stream, [&] { launch(args, candidates_[i], stream); });
      if (milliseconds < least) {
        fastest = i;
        least = milliseconds;
      }
    }
    settle_on(candidates_[fastest]);
    algorithms().add(name_, std::bit_cast<AlgorithmWords>(candidates_.front()));
  }

  void settle_on(cublasLtMatmulAlgo_t algorithm) {
    candidates_ = {algorithm};
    tuned_ = true;
  }

  static constexpr int kMostCandidates = 16;
  std::string name_;
  Operation operation_;
  Layout a_, b_, out_;
  std::vector<cublasLtMatmulAlgo_t> candidates_;  // the first is used
  bool tuned_ = false;
};

Product& product_of(const Problem& problem) {
  static std::map<Problem, std::unique_ptr<Product>> products;
  std::unique_ptr<Product>& product = products[problem];
  if (!product) product = std::make_unique<Product>(problem);
  return *product;
}

}  // namespace

void matmul(const Matmul& args, Stream stream) {
  product_of(problem_of(args)).run(args, stream);
}

}  // namespace gpt2train::cuda
