// A query at a time, by an online softmax over pieces of keys (Dao et al. 2022). Keys and values of
// the call's own tokens are read from qkv, so writing the cache needs no order among threads.
#include "kernels/attention_cached.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace gpt2train::cpu {
namespace {

constexpr std::int64_t kKeys = 64;  // of a piece; their scores are on the stack
constexpr std::int64_t kHeadColumns =
    512;  // of the output; wider heads take their scores once more

// What a query reads: its own sequence and head.
template <class T>
struct Rows {
  const T* fresh;  // in qkv: the query of the first new token
  const T* k;      // in the caches, row 0
  const T* v;
  std::int64_t position, width;

  const T* query(std::int64_t t) const { return fresh + t * 3 * width; }
  const T* key(std::int64_t row) const { return at(row, k, 1); }
  const T* value(std::int64_t row) const { return at(row, v, 2); }

 private:
  const T* at(std::int64_t row, const T* cache, std::int64_t part) const {
    return row < position ? cache + row * width : query(row - position) + part * width;
  }
};

template <class T>
float dot(const T* a, const T* b, std::int64_t size) {
  simd::Floats sum = {};
  simd::for_each(size, [&](std::int64_t i, auto lanes) {
    sum += simd::load(a + i, lanes) * simd::load(b + i, lanes);
  });
  return simd::sum(sum);
}

// Scores of `count` keys from `first` on become exp(score - largest); returns their sum. `largest`
// is raised, and `correction` brings what was summed before to it.
template <class T>
float weigh_keys(float* scores, const Rows<T>& rows, std::int64_t t, std::int64_t first,
                 std::int64_t count, std::int64_t head_size, float scale, float& largest,
                 float& correction) {
  const float before = largest;
  for (std::int64_t i = 0; i < count; ++i) {
    scores[i] = scale * dot(rows.query(t), rows.key(first + i), head_size);
    largest = std::max(largest, scores[i]);
  }
  correction = std::exp(before - largest);
  simd::Floats sum = {};
  simd::for_each(count, [&](std::int64_t i, auto lanes) {
    // Lanes past the end are exp(-inf) = 0.
    const simd::Floats p = simd::exp(simd::load(scores + i, lanes, -simd::kInfinity) - largest);
    simd::store(scores + i, p, lanes);
    sum += p;
  });
  return simd::sum(sum);
}

// Columns [first_column, first_column + columns) of one query's output.
template <class T>
void attend(T* out, const Rows<T>& rows, std::int64_t t, std::int64_t head_size,
            std::int64_t first_column, std::int64_t columns) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_size));
  const std::int64_t keys = rows.position + t + 1;
  float scores[kKeys], sums[kHeadColumns] = {};
  float largest = -simd::kInfinity, sum = 0.0f, correction = 0.0f;
  for (std::int64_t first = 0; first < keys; first += kKeys) {
    const std::int64_t count = std::min(kKeys, keys - first);
    const float more =
        weigh_keys(scores, rows, t, first, count, head_size, scale, largest, correction);
    sum = sum * correction + more;
    simd::for_each(columns, [&](std::int64_t i, auto lanes) {
      simd::Floats x = correction * simd::load(sums + i, lanes);
      for (std::int64_t key = 0; key < count; ++key) {
        x += scores[key] * simd::load(rows.value(first + key) + first_column + i, lanes);
      }
      simd::store(sums + i, x, lanes);
    });
  }
  simd::for_each(columns, [&](std::int64_t i, auto lanes) {
    simd::store(out + first_column + i, simd::load(sums + i, lanes) / sum, lanes);
  });
}

template <class T>
void run(const AttentionCached& args) {
  const std::int64_t batch = args.qkv.shape[0], time = args.qkv.shape[1];
  const std::int64_t width = args.out.width(), capacity = args.k.shape[1], heads = args.heads;
  const std::int64_t head_size = width / heads;
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t item = 0; item < batch * heads * time; ++item) {
    // The longest rows first, so that the threads end together.
    const std::int64_t t = time - 1 - item / (batch * heads);
    const std::int64_t b = item % (batch * heads) / heads, column = item % heads * head_size;
    T* const k = args.k.as<T>() + b * capacity * width + column;
    T* const v = args.v.as<T>() + b * capacity * width + column;
    const Rows<T> rows{.fresh = args.qkv.as<T>() + b * time * 3 * width + column,
                       .k = k,
                       .v = v,
                       .position = args.position,
                       .width = width};
    const std::int64_t row = args.position + t;
    std::copy_n(rows.key(row), head_size, k + row * width);
    std::copy_n(rows.value(row), head_size, v + row * width);
    T* const out = args.out.as<T>() + (b * time + t) * width + column;
    for (std::int64_t first = 0; first < head_size; first += kHeadColumns) {
      attend(out, rows, t, head_size, first, std::min(kHeadColumns, head_size - first));
    }
  }
}

}  // namespace

void attention_cached(const AttentionCached& args, Stream) {
  dispatch_float(args.qkv.dtype, "attention_cached", [&]<class T>() { run<T>(args); });
}

}  // namespace gpt2train::cpu
