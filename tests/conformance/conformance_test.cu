// Each wrapper of kernels/cuda/gpu.h does what its comment says. The same file is compiled by nvcc
// for a GPU and as host code for the emulator: where both pass, the emulator's bodies agree with
// the silicon. Small integers, so that sums are exact in any order.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/cuda/gpu.h"
#include "tests/support/device_array.h"

namespace gpt2train::test {
namespace {

using namespace gpt2train::cuda;

const Launch kOneWarp{.grid = {1}, .block = {kWarp}};

// ---- conversions --------------------------------------------------------------------------------

template <class T>
__global__ void widen_kernel(float* to, const T* from) {
  to[global_thread()] = widen(from[global_thread()]);
}

template <class T>
__global__ void narrow_kernel(T* to, const float* from) {
  to[global_thread()] = narrow<T>(from[global_thread()]);
}

template <class T>
__global__ void pack_kernel(std::uint32_t* to, const float* from) {
  const std::int64_t i = global_thread();
  to[i] = pack<T>(from[2 * i], from[2 * i + 1]);
}

template <class T>
class Conversion : public testing::Test {};
using HalfTypes = testing::Types<bf16, fp16>;
TYPED_TEST_SUITE(Conversion, HalfTypes);

template <class T>
bool is_nan(T x) {
  return std::isnan(to_float(x));
}

TYPED_TEST(Conversion, WidensEveryValue) {
  std::vector<TypeParam> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<std::uint16_t>(i);
  const DeviceArray<TypeParam> from(all);
  const DeviceArray<float> to(all.size());
  gpu_launch({.grid = {256}, .block = {256}}, widen_kernel<TypeParam>, to.data(), from.data());
  const std::vector<float> values = to.values();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (is_nan(all[i])) {
      EXPECT_TRUE(std::isnan(values[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(values[i]),
                std::bit_cast<std::uint32_t>(to_float(all[i])))
          << i;
    }
  }
}

// Random bits, values halfway between two neighbours and just off halfway, and the extremes.
std::vector<float> awkward_floats() {
  std::vector<float> values;
  std::mt19937 engine(1);
  const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
  for (int i = 0; i < 20000; ++i) values.push_back(std::bit_cast<float>(random()));
  for (int i = 0; i < 10000; ++i) {
    const std::uint32_t bits = random();
    for (const std::uint32_t low : {0x7FFFu, 0x8000u, 0x8001u}) {  // of bf16
      values.push_back(std::bit_cast<float>((bits & 0xFFFF0000u) | low));
    }
    // Of fp16, in its range.
    const std::uint32_t exponent = 100 + bits % 45;
    for (const std::uint32_t low : {0xFFFu, 0x1000u, 0x1001u}) {
      values.push_back(std::bit_cast<float>(exponent << 23 | (random() & 0x7FE000u) | low));
    }
  }
  for (const float x :
       {0.0f, 65519.0f, 65520.0f, 65504.0f, 1e-8f, 5.96e-8f, 2.98e-8f, 3.4e38f, 1e-45f,
        std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    values.push_back(x);
    values.push_back(-x);
  }
  while (values.size() % 512 != 0) values.push_back(0.0f);
  return values;
}

TYPED_TEST(Conversion, NarrowsToTheNearestAndTiesToEven) {
  const std::vector<float> floats = awkward_floats();
  const DeviceArray<float> from(floats);
  const DeviceArray<TypeParam> to(floats.size());
  gpu_launch({.grid = {static_cast<unsigned>(floats.size() / 256)}, .block = {256}},
             narrow_kernel<TypeParam>, to.data(), from.data());
  const std::vector<TypeParam> values = to.values();
  for (std::size_t i = 0; i < floats.size(); ++i) {
    if (std::isnan(floats[i])) {
      EXPECT_TRUE(is_nan(values[i]));
    } else {
      EXPECT_EQ(values[i].bits, from_float<TypeParam>(floats[i]).bits) << floats[i];
    }
  }
}

TYPED_TEST(Conversion, PacksTheFirstValueIntoTheLowHalf) {
  const std::vector<float> floats = awkward_floats();
  const DeviceArray<float> from(floats);
  const DeviceArray<std::uint32_t> to(floats.size() / 2);
  gpu_launch({.grid = {static_cast<unsigned>(floats.size() / 512)}, .block = {256}},
             pack_kernel<TypeParam>, to.data(), from.data());
  const std::vector<std::uint32_t> pairs = to.values();
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    for (const std::size_t half : {0, 1}) {
      const float x = floats[2 * i + half];
      const auto bits = static_cast<std::uint16_t>(pairs[i] >> (16 * half));
      if (std::isnan(x)) continue;
      EXPECT_EQ(bits, from_float<TypeParam>(x).bits) << x;
    }
  }
}

// ---- memory -------------------------------------------------------------------------------------

template <class T, int kCount>
__global__ void copy_kernel(T* to, const T* from) {
  float x[kCount];
  load<Reuse::kOnce>(x, from + threadIdx.x * kCount);
  store<Reuse::kOnce>(to + threadIdx.x * kCount, x);
}

template <class T, int kCount>
void expect_copies() {
  std::vector<T> values;
  for (int i = 0; i < kWarp * kCount; ++i) values.push_back(from_float<T>(static_cast<float>(i)));
  const DeviceArray<T> from(values), to(values.size());
  gpu_launch(kOneWarp, copy_kernel<T, kCount>, to.data(), from.data());
  const std::vector<T> copied = to.values();
  EXPECT_EQ(std::memcmp(copied.data(), values.data(), values.size() * sizeof(T)), 0) << kCount;
}

TEST(Memory, LoadsAndStoresVectorsOfEverySize) {
  expect_copies<float, 1>();
  expect_copies<float, 4>();
  expect_copies<float, 8>();
  expect_copies<bf16, 1>();
  expect_copies<bf16, 8>();
  expect_copies<fp16, 1>();
  expect_copies<fp16, 8>();
}

// ---- arithmetic ---------------------------------------------------------------------------------

__global__ void exp2_kernel(float* to, const float* from) {
  to[global_thread()] = exp2_approximate(from[global_thread()]);
}

TEST(Arithmetic, Exp2IsWithinTwoUlp) {
  std::vector<float> x;
  for (int i = 0; i < 8192; ++i) x.push_back(-126.0f + static_cast<float>(i) * (252.0f / 8192.0f));
  x[0] = -std::numeric_limits<float>::infinity();
  const DeviceArray<float> from(x), to(x.size());
  gpu_launch({.grid = {32}, .block = {256}}, exp2_kernel, to.data(), from.data());
  const std::vector<float> y = to.values();
  EXPECT_EQ(y[0], 0.0f);
  for (std::size_t i = 1; i < x.size(); ++i) {
    EXPECT_LE(std::abs(double{y[i]} / std::exp2(double{x[i]}) - 1.0), 0x1p-22) << x[i];
  }
}

// ---- a warp -------------------------------------------------------------------------------------

__global__ void shuffle_kernel(float* xor_floats, double* xor_doubles, std::uint32_t* from_lane,
                               std::uint32_t* votes, float* sums, float* maxima) {
  const int lane = lane_index();
  for (int mask = 0; mask < kWarp; ++mask) {
    const int at = mask * kWarp + lane;
    xor_floats[at] = shuffle_xor(static_cast<float>(lane), mask);
    xor_doubles[at] = shuffle_xor(1.0 / (lane + 1), mask);
    from_lane[at] = shuffle_from(static_cast<std::uint32_t>(lane * 100), mask);
  }
  votes[lane] = ballot(lane % 3 == 0);
  sums[lane] = warp_sum(static_cast<float>(lane));
  maxima[lane] = warp_max(static_cast<float>((lane * 7) % kWarp));
}

TEST(Warp, ShufflesVotesAndSums) {
  const DeviceArray<float> floats(1024), sums(kWarp), maxima(kWarp);
  const DeviceArray<double> doubles(1024);
  const DeviceArray<std::uint32_t> from_lane(1024), votes(kWarp);
  gpu_launch(kOneWarp, shuffle_kernel, floats.data(), doubles.data(), from_lane.data(),
             votes.data(), sums.data(), maxima.data());
  for (int mask = 0; mask < kWarp; ++mask) {
    for (int lane = 0; lane < kWarp; ++lane) {
      const auto at = static_cast<std::size_t>(mask * kWarp + lane);
      EXPECT_EQ(floats.values()[at], static_cast<float>(lane ^ mask));
      EXPECT_EQ(doubles.values()[at], 1.0 / ((lane ^ mask) + 1));
      EXPECT_EQ(from_lane.values()[at], static_cast<std::uint32_t>(mask * 100));
    }
  }
  for (std::size_t lane = 0; lane < kWarp; ++lane) {
    EXPECT_EQ(votes.values()[lane], 0x49249249u);
    EXPECT_EQ(sums.values()[lane], 496.0f);
    EXPECT_EQ(maxima.values()[lane], 31.0f);
  }
}

// ---- order and copies ---------------------------------------------------------------------------

constexpr int kThreads = 128;

__global__ void reverse_kernel(int* to) {
  GPU_SHARED(int, values, kThreads);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  block_barrier();
  to[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
}

TEST(Order, ABarrierShowsWhatOthersWrote) {
  const DeviceArray<int> to(kThreads);
  gpu_launch({.grid = {1}, .block = {kThreads}}, reverse_kernel, to.data());
  for (int i = 0; i < kThreads; ++i) EXPECT_EQ(to.values()[static_cast<std::size_t>(i)], 127 - i);
}

// Each thread copies two pieces of 16 bytes in two groups; every third piece is absent.
__global__ void copy_async_kernel(float* to, const float* from) {
  GPU_DYNAMIC_SHARED(float, shared);
  const int first = static_cast<int>(threadIdx.x) * 4, second = first + kThreads * 4;
  copy_async(shared + first, from + first, threadIdx.x % 3 != 0);
  commit_copies();
  copy_async(shared + second, from + second, true);
  commit_copies();
  wait_copies<1>();
  block_barrier();
  const int other = (kThreads - 1) * 4 - first;
  for (int i = 0; i < 4; ++i) to[first + i] = shared[other + i];
  wait_copies<0>();
  block_barrier();
  for (int i = 0; i < 4; ++i) to[second + i] = shared[kThreads * 4 + other + i];
}

TEST(Copies, LandInGroupsAndFillWithZeros) {
  std::vector<float> values;
  for (int i = 0; i < kThreads * 8; ++i) values.push_back(static_cast<float>(i + 1));
  const DeviceArray<float> from(values), to(values.size());
  gpu_launch({.grid = {1}, .block = {kThreads}, .shared_bytes = values.size() * sizeof(float)},
             copy_async_kernel, to.data(), from.data());
  const std::vector<float> copied = to.values();
  for (std::size_t half : {0, 1}) {
    for (std::size_t thread = 0; thread < kThreads; ++thread) {
      const std::size_t other = kThreads - 1 - thread;
      for (std::size_t i = 0; i < 4; ++i) {
        const float expected =
            half == 0 && other % 3 == 0 ? 0.0f : values[half * kThreads * 4 + other * 4 + i];
        EXPECT_EQ(copied[half * kThreads * 4 + thread * 4 + i], expected) << half << ' ' << thread;
      }
    }
  }
}

// ---- matrices -----------------------------------------------------------------------------------

// a (16, 16) and b (16, 16), both by rows. Registers of the three loads, and two products.
template <class T>
__global__ void matrix_kernel(std::uint32_t* registers, float* products, const T* a, const T* b) {
  GPU_SHARED(T, shared, 512);
  const int lane = lane_index();
  for (int i = lane; i < 256; i += kWarp) {
    shared[i] = a[i];
    shared[256 + i] = b[i];
  }
  block_barrier();
  std::uint32_t left[4], rows[4], columns[4];
  load_matrices(left, shared + lane % 16 * 16 + lane / 16 * 8);
  load_matrices(rows, shared + 256 + (lane % 8 + lane / 16 * 8) * 16 + lane / 8 % 2 * 8);
  load_matrices_transposed(columns, shared + 256 + lane % 16 * 16 + lane / 16 * 8);
  for (int i = 0; i < 4; ++i) {
    registers[lane * 12 + i] = left[i];
    registers[lane * 12 + 4 + i] = rows[i];
    registers[lane * 12 + 8 + i] = columns[i];
  }
  float by_rows[4] = {}, by_columns[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  multiply_add<T>(by_rows, left, rows[0], rows[1]);
  multiply_add<T>(by_columns, left, columns[0], columns[1]);
  for (int i = 0; i < 4; ++i) {
    products[lane * 8 + i] = by_rows[i];
    products[lane * 8 + 4 + i] = by_columns[i];
  }
}

template <class T>
class Matrices : public testing::Test {};
TYPED_TEST_SUITE(Matrices, HalfTypes);

TYPED_TEST(Matrices, FragmentsAndProductsAreThoseOfThePtxIsa) {
  std::vector<TypeParam> a(256), b(256);
  std::vector<float> x(256), y(256);
  for (std::size_t i = 0; i < 256; ++i) {
    x[i] = static_cast<float>(i * 7 % 31) - 15.0f;
    y[i] = static_cast<float>(i * 11 % 29) - 14.0f;
    a[i] = from_float<TypeParam>(x[i]);
    b[i] = from_float<TypeParam>(y[i]);
  }
  const DeviceArray<TypeParam> device_a(a), device_b(b);
  const DeviceArray<std::uint32_t> registers(kWarp * 12);
  const DeviceArray<float> products(kWarp * 8);
  gpu_launch(kOneWarp, matrix_kernel<TypeParam>, registers.data(), products.data(), device_a.data(),
             device_b.data());
  const std::vector<std::uint32_t> held = registers.values();
  const std::vector<float> product = products.values();
  const auto low = [&](std::size_t at) {
    return to_float(TypeParam{static_cast<std::uint16_t>(held[at])});
  };
  const auto high = [&](std::size_t at) {
    return to_float(TypeParam{static_cast<std::uint16_t>(held[at] >> 16)});
  };
  for (std::size_t lane = 0; lane < kWarp; ++lane) {
    const std::size_t g = lane / 4, t = lane % 4;
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
      EXPECT_EQ(low(lane * 12 + i), x[row * 16 + column]);
      EXPECT_EQ(high(lane * 12 + i), x[row * 16 + column + 1]);
      const std::size_t n = g + i / 2 * 8, k = 2 * t + i % 2 * 8;
      EXPECT_EQ(low(lane * 12 + 4 + i), y[n * 16 + k]);
      EXPECT_EQ(high(lane * 12 + 4 + i), y[n * 16 + k + 1]);
      EXPECT_EQ(low(lane * 12 + 8 + i), y[k * 16 + n]);
      EXPECT_EQ(high(lane * 12 + 8 + i), y[(k + 1) * 16 + n]);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      const std::size_t row = g + i / 2 * 8, column = 2 * t + i % 2;
      float transposed = 0.0f, plain = static_cast<float>(i + 1);
      for (std::size_t k = 0; k < 16; ++k) {
        transposed += x[row * 16 + k] * y[column * 16 + k];
        plain += x[row * 16 + k] * y[k * 16 + column];
      }
      EXPECT_EQ(product[lane * 8 + i], transposed);
      EXPECT_EQ(product[lane * 8 + 4 + i], plain);
    }
  }
}

}  // namespace
}  // namespace gpt2train::test
