// Matrix products by cuBLASLt. It counts in columns: a row-major (rows, width) matrix is its
// (width, rows) one, so out = op(a) op(b) is asked for as out^T = op(b)^T op(a)^T, and no operand
// moves. Descriptions and algorithms are kept by shape.
#include "kernels/matmul.h"

#include <cublasLt.h>

#include <compare>
#include <map>
#include <memory>
#include <mutex>

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
      break;
  }
  throw InternalError(concat("matmul: no product for dtype ", name_of(dtype)));
}

struct Problem {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false, bias = false, accumulate = false, tf32 = false;
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
          .accumulate = args.accumulate,
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

class Product {
 public:
  explicit Product(const Problem& p)
      : a_(p.transpose_a ? layout_of(p.in, p.k, p.m) : layout_of(p.in, p.m, p.k)),
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
    choose(p);
  }

  void run(const Matmul& args, Stream stream) {
    if (args.bias.present()) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias.data);
    const float alpha = 1.0f, beta = args.accumulate ? 1.0f : 0.0f;
    GPT2_CUBLAS_CHECK(cublasLtMatmul(
        handle(), operation_.get(), &alpha, args.b.data, b_.get(), args.a.data, a_.get(), &beta,
        args.out.data, out_.get(), args.out.data, out_.get(), &algorithm_, args.workspace.data,
        args.workspace.bytes, static_cast<cudaStream_t>(stream.handle)));
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    GPT2_CUBLAS_CHECK(
        cublasLtMatmulDescSetAttribute(operation_.get(), attribute, &value, sizeof value));
  }

  // cuBLASLt's own first choice within the workspace.
  void choose(const Problem& p) {
    cublasLtMatmulPreference_t made = nullptr;
    GPT2_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&made));
    const Preference preference(made);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      GPT2_CUBLAS_CHECK(
          cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMatmulWorkspaceBytes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.out_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.out_alignment);
    cublasLtMatmulHeuristicResult_t result = {};
    int count = 0;
    GPT2_CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(handle(), operation_.get(), b_.get(), a_.get(),
                                                     out_.get(), out_.get(), made, 1, &result,
                                                     &count));
    if (count == 0) throw DeviceError("cuBLASLt has no algorithm for a matrix product");
    algorithm_ = result.algo;
  }

  Operation operation_;
  Layout a_, b_, out_;
  cublasLtMatmulAlgo_t algorithm_ = {};
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
