#include <omp.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

template <class T>
void forward(const EmbeddingForward& args) {
  const std::int64_t rows = args.out.rows(), width = args.out.width(), time = args.out.shape[1];
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  T* out = args.out.as<T>();
  const T* token_table = args.token_table.as<T>();
  const T* position_table = args.position_table.as<T>();

#pragma omp parallel if (rows * width > kParallelWork)
  {
    RowMask masks(args.dropout, time, width);
#pragma omp for schedule(static)
    for (std::int64_t row = 0; row < rows; ++row) {
      for_each_stretch(masks, row, 0, width, [&](auto column, auto count, const float* mask) {
        const T* token = token_table + tokens[row] * width + column;
        const T* position = position_table + row % time * width + column;
        simd::for_each(count, [&](std::int64_t i, auto lanes) {
          const simd::Floats sum = simd::load(token + i, lanes) + simd::load(position + i, lanes);
          simd::store(out + row * width + column + i, sum * simd::load(mask + i), lanes);
        });
      });
    }
  }
}

// Each thread owns a range of columns of both tables and walks all tokens in order.
template <class T>
void backward(const EmbeddingBackward& args) {
  const std::int64_t rows = args.d_out.rows(), width = args.d_out.width();
  const std::int64_t time = args.d_out.shape[1];
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  const T* d_out = args.d_out.as<T>();
  float* d_token_table = args.d_token_table.as<float>();
  float* d_position_table = args.d_position_table.as<float>();
  const std::int64_t positions = args.accumulate ? 0 : args.d_position_table.rows();

#pragma omp parallel if (rows * width > kParallelWork)
  {
    constexpr std::int64_t kCacheLine = 16;  // floats: no two threads write to the same line
    const std::int64_t lines = (width + kCacheLine - 1) / kCacheLine;
    const std::int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const std::int64_t begin = lines * thread / threads * kCacheLine;
    const std::int64_t end = std::min(width, lines * (thread + 1) / threads * kCacheLine);

    for (std::int64_t position = 0; position < positions && begin < end; ++position) {
      std::fill_n(d_position_table + position * width + begin, end - begin, 0.0f);
    }
    RowMask masks(args.dropout, time, width);
    for (std::int64_t row = 0; row < rows; ++row) {
      for_each_stretch(masks, row, begin, end, [&](auto column, auto count, const float* mask) {
        const T* d = d_out + row * width + column;
        float* token = d_token_table + tokens[row] * width + column;
        float* position = d_position_table + row % time * width + column;
        simd::for_each(count, [&](std::int64_t i, auto lanes) {
          const simd::Floats g = simd::load(d + i, lanes) * simd::load(mask + i);
          simd::store(token + i, simd::load(token + i, lanes) + g, lanes);
          simd::store(position + i, simd::load(position + i, lanes) + g, lanes);
        });
      });
    }
  }
}

}  // namespace

std::size_t embedding_backward_workspace(const EmbeddingBackward&) {
  return 0;
}

void embedding_forward(const EmbeddingForward& args, Stream) {
  dispatch_float(args.out.dtype, "embedding_forward", [&]<class T>() { forward<T>(args); });
}

void embedding_backward(const EmbeddingBackward& args, Stream) {
  dispatch_float(args.d_out.dtype, "embedding_backward", [&]<class T>() { backward<T>(args); });
}

}  // namespace gpt2train::cpu
