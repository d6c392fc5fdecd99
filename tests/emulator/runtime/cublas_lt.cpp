#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <vector>

#include "gpt2train/core/convert.h"
#include "tests/emulator/emulator.h"

using gpt2train::bf16;
using gpt2train::fp16;

struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType type;
  std::int64_t rows, columns, leading;
};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  cudaDataType bias_type = CUDA_R_32F;
};
struct cublasLtMatmulPreferenceOpaque_t {};

namespace {

float value_at(const void* data, cudaDataType type, std::int64_t i) {
  switch (type) {
    case CUDA_R_32F:
      return static_cast<const float*>(data)[i];
    case CUDA_R_16F:
      return to_float(static_cast<const fp16*>(data)[i]);
    case CUDA_R_16BF:
      return to_float(static_cast<const bf16*>(data)[i]);
  }
  return 0.0f;
}

void put(void* data, cudaDataType type, std::int64_t i, float value) {
  switch (type) {
    case CUDA_R_32F:
      static_cast<float*>(data)[i] = value;
      return;
    case CUDA_R_16F:
      static_cast<fp16*>(data)[i] = gpt2train::from_float<fp16>(value);
      return;
    case CUDA_R_16BF:
      static_cast<bf16*>(data)[i] = gpt2train::from_float<bf16>(value);
  }
}

// Ten bits of fraction are left; ties go away from zero, as on a tensor core.
float to_tf32(float x) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x1000u) & ~0x1FFFu);
}

// op(matrix) as fp32, by rows of `columns`.
std::vector<float> widened(const void* data, const cublasLtMatrixLayoutOpaque_t& m,
                           cublasOperation_t op) {
  std::vector<float> values;
  const std::int64_t rows = op == CUBLAS_OP_N ? m.rows : m.columns;
  const std::int64_t columns = op == CUBLAS_OP_N ? m.columns : m.rows;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      values.push_back(
          value_at(data, m.type, op == CUBLAS_OP_N ? j * m.leading + i : i * m.leading + j));
    }
  }
  return values;
}

// By value, as a graph keeps it.
struct Product {
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t a_layout, b_layout, c_layout, d_layout;
  const void *a, *b, *c;
  void* d;
  float alpha = 0.0f, beta = 0.0f;

  void compute() const {
    const std::int64_t m = d_layout.rows, n = d_layout.columns;
    auto left = widened(a, a_layout, desc.transpose_a);
    auto right = widened(b, b_layout, desc.transpose_b);
    if (desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32) {
      for (float& x : left) x = to_tf32(x);
      for (float& x : right) x = to_tf32(x);
    }
    const auto k = static_cast<std::int64_t>(left.size()) / m;
    std::vector<float> sums(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < m; ++i) {
      sums.assign(static_cast<std::size_t>(n), 0.0f);
      for (std::int64_t l = 0; l < k; ++l) {
        for (std::int64_t j = 0; j < n; ++j) sums[j] += left[i * k + l] * right[l * n + j];
      }
      for (std::int64_t j = 0; j < n; ++j) {
        float value = alpha * sums[j];
        if (beta != 0.0f) value += beta * value_at(c, c_layout.type, j * c_layout.leading + i);
        if (desc.epilogue == CUBLASLT_EPILOGUE_BIAS) {
          value += value_at(desc.bias, desc.bias_type, i);
        }
        put(d, d_layout.type, j * d_layout.leading + i, value);
      }
    }
  }
};

constexpr int kAlgorithms = 3;

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = nullptr;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType) {
  *desc = new cublasLtMatmulDescOpaque_t{.compute = compute};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  const auto set = [&](auto& field) {
    if (bytes != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(desc->transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(desc->transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(desc->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(desc->bias);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return set(desc->bias_type);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t columns,
                                          std::int64_t leading) {
  *layout = new cublasLtMatrixLayoutOpaque_t{type, static_cast<std::int64_t>(rows),
                                             static_cast<std::int64_t>(columns), leading};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}

// Three algorithms, which differ by the time they take: the second is the fastest.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int requested,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  *count = std::min(requested, kAlgorithms);
  for (int i = 0; i < *count; ++i) {
    results[i] = {};
    results[i].algo.data[0] = static_cast<std::uint64_t>(i);
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
  *result = {};
  return algo->data[0] < kAlgorithms ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void*, std::size_t, cudaStream_t) {
  Product product{.desc = *desc,
                  .a_layout = *a_layout,
                  .b_layout = *b_layout,
                  .c_layout = *c_layout,
                  .d_layout = *d_layout,
                  .a = a,
                  .b = b,
                  .c = c,
                  .d = d};
  std::memcpy(&product.alpha, alpha, sizeof product.alpha);
  std::memcpy(&product.beta, beta, sizeof product.beta);
  const auto rows = [](const auto& m, cublasOperation_t op) {
    return op == CUBLAS_OP_N ? m.rows : m.columns;
  };
  const auto columns = [](const auto& m, cublasOperation_t op) {
    return op == CUBLAS_OP_N ? m.columns : m.rows;
  };
  if (columns(*a_layout, desc->transpose_a) != rows(*b_layout, desc->transpose_b) ||
      rows(*a_layout, desc->transpose_a) != d_layout->rows ||
      columns(*b_layout, desc->transpose_b) != d_layout->columns ||
      c_layout->rows != d_layout->rows || c_layout->columns != d_layout->columns ||
      algo->data[0] >= kAlgorithms) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const auto work = [product, algorithm = algo->data[0]] {
    product.compute();
    ++gpt2train::emulator::counts().products[algorithm];
    gpt2train::emulator::advance_clock(std::chrono::milliseconds(algorithm == 1 ? 100 : 1000));
  };
  if (gpt2train::emulator::capture != nullptr) {
    gpt2train::emulator::capture->push_back(work);
  } else {
    work();
  }
  return CUBLAS_STATUS_SUCCESS;
}

std::size_t cublasLtGetVersion() {
  return 130000;
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "invalid value";
}
