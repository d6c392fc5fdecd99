// What the kernel tests share: guarded tensors, inputs and the error measure. Oracles are in
// double, in each test, from the formula.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "gpt2train/core/convert.h"
#include "gpt2train/core/rng.h"
#include "gpt2train/core/tensor_view.h"
#include "kernels/workspace.h"
#include "tests/support/device_array.h"

#ifdef GPT2TRAIN_EMULATE
#include "tests/emulator/emulator.h"
#endif

namespace gpt2train {

inline void PrintTo(DType dtype, std::ostream* out) {
  *out << name_of(dtype);
}

namespace test {

// Below, at and above a vector, and the widths of GPT-2; times around a tile of attention. Under
// ThreadSanitizer, some fifty times slower, sizes are small and schedules few: it watches every
// access in whatever order, and values are compared in the other builds.
#if defined(__SANITIZE_THREAD__)
inline constexpr std::int64_t kWidths[] = {1, 31, 257};
inline constexpr std::int64_t kRowCounts[] = {1, 17};
inline constexpr std::int64_t kManyRows = 67;
inline constexpr std::int64_t kTimes[] = {1, 65};
inline constexpr std::int64_t kLongTime = 130;
inline constexpr int kSchedules = 2;
#else
inline constexpr std::int64_t kWidths[] = {1, 31, 257, 768, 1600};
inline constexpr std::int64_t kRowCounts[] = {1, 67};
inline constexpr std::int64_t kManyRows = 301;
inline constexpr std::int64_t kTimes[] = {1, 2, 31, 63, 64, 65, 257};
inline constexpr std::int64_t kLongTime = 1000;
inline constexpr int kSchedules = 10;
#endif

// Memory with pattern bytes on both sides; the destructor fails the test if a kernel wrote there.
// The pattern, all ones, is a NaN in both float types: what is read outside shows as well.
class GuardedBytes {
 public:
  explicit GuardedBytes(std::size_t bytes) : bytes_(bytes), storage_(bytes + 2 * kGuard, kPattern) {
    const auto address = reinterpret_cast<std::uintptr_t>(storage_.data()) + kMargin;
    offset_ = kMargin + (kAlignment - address % kAlignment) % kAlignment;
  }
  ~GuardedBytes() {
    synchronise();
    for (std::size_t i = 0; i < storage_.size(); ++i) {
      const bool inside = i >= offset_ && i < offset_ + bytes_;
      if (inside || storage_.data()[i] == kPattern) continue;
      ADD_FAILURE() << "a write at byte " << static_cast<std::ptrdiff_t>(i - offset_) << " of "
                    << bytes_;
      break;
    }
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  void* data() const { return storage_.data() + offset_; }
  Workspace workspace() { return {data(), bytes_}; }

 private:
  static constexpr std::size_t kAlignment = 512, kMargin = 64, kGuard = kMargin + kAlignment;
  static constexpr unsigned char kPattern = 0xFF;
  std::size_t bytes_;
  DeviceArray<unsigned char> storage_;
  std::size_t offset_ = 0;
};

class GuardedTensor {
 public:
  GuardedTensor(DType dtype, Shape shape)
      : bytes_(static_cast<std::size_t>(shape.count()) * size_of(dtype)),
        view_{bytes_.data(), dtype, shape} {}
  // Values are rounded to the dtype; values() has them as rounded.
  GuardedTensor(DType dtype, Shape shape, const std::vector<float>& values)
      : GuardedTensor(dtype, shape) {
    dispatch([&]<class T>() {
      for (std::size_t i = 0; i < values.size(); ++i) {
        if constexpr (sizeof(T) == 1) {
          view_.as<T>()[i] = static_cast<T>(values[i]);
        } else {
          view_.as<T>()[i] = from_float<T>(values[i]);
        }
      }
    });
  }
  GuardedTensor(Shape shape, const std::vector<std::int32_t>& values)
      : GuardedTensor(DType::kInt32, shape) {
    std::memcpy(view_.data, values.data(), view_.bytes());
  }

  operator TensorView() const { return view_; }
  const TensorView& view() const { return view_; }
  std::vector<double> values() const {
    synchronise();
    std::vector<double> out(static_cast<std::size_t>(view_.count()));
    dispatch([&]<class T>() {
      for (std::size_t i = 0; i < out.size(); ++i) {
        if constexpr (sizeof(T) == 1) {
          out[i] = view_.as<T>()[i];
        } else {
          out[i] = double{to_float(view_.as<T>()[i])};
        }
      }
    });
    return out;
  }

 private:
  template <class Fn>
  void dispatch(const Fn& fn) const {
    if (view_.dtype == DType::kInt8) return fn.template operator()<std::int8_t>();
    if (view_.dtype == DType::kUInt8) return fn.template operator()<std::uint8_t>();
    dispatch_any_float(view_.dtype, "test", fn);
  }

  GuardedBytes bytes_;
  TensorView view_;
};

// The same numbers for the same seed, everywhere.
inline std::vector<float> uniform(std::int64_t count, std::uint64_t seed, float low = -1.0f,
                                  float high = 1.0f) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t index = static_cast<std::uint32_t>(i);
    const std::uint32_t word = random_words(seed, RandomUse::kSampling, 0, 0, index)[0];
    out.push_back(low + (high - low) * unit_float(word));
  }
  return out;
}

// Squared error over squared reference: relative, and no single near-zero element decides.
inline double nmse(const std::vector<double>& expected, const std::vector<double>& actual) {
  if (expected.size() != actual.size()) return HUGE_VAL;
  double error = 0.0, scale = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    scale += expected[i] * expected[i];
  }
  return scale > 0.0 ? error / scale : error;
}

// The factor on one element, from the definition in core/rng.h.
inline double dropout_factor(const Dropout& d, std::uint64_t sample, std::int64_t element) {
  if (!d.active()) return 1.0;
  const auto index = static_cast<std::uint32_t>(element / 4);
  const Philox4 words = random_words(d.seed, d.use, sample, d.layer, index);
  const float unit = unit_float(words[static_cast<std::size_t>(element % 4)]);
  return unit < d.rate ? 0.0 : double{1.0f / (1.0f - d.rate)};
}
// Of an element of a (rows, width) tensor with `time` rows a sample.
inline double dropout_factor(const Dropout& d, std::int64_t row, std::int64_t column,
                             std::int64_t time, std::int64_t width) {
  return dropout_factor(d, d.row_0() + static_cast<std::uint64_t>(row / time),
                        row % time * width + column);
}

// run() returns what a kernel computed: bit for bit the same however its threads are scheduled.
template <class Run>
void expect_same_bits_in_any_schedule(const Run& run) {
#ifdef GPT2TRAIN_EMULATE
  const emulator::Options before = emulator::options();
  emulator::options() = {};
  const std::vector<double> expected = run();
  using emulator::Order;
  for (std::uint64_t schedule = 0; schedule < kSchedules; ++schedule) {
    emulator::Options& options = emulator::options();
    options.order = schedule == 0 ? Order::kReverse : Order::kRandom;
    options.seed = schedule;
    options.workers = schedule % 3 == 1 ? 3 : 1;
    options.late_copies = schedule % 2 == 0;
    EXPECT_EQ(run(), expected) << "schedule " << schedule;
  }
  emulator::options() = before;
#else
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const std::vector<double> expected = run();
  for (const int threads : {2, 3, 4, 7}) {
    omp_set_num_threads(threads);
    EXPECT_EQ(run(), expected) << threads << " threads";
  }
  omp_set_num_threads(before);
#endif
}

// A test for each float type; nmse limits are given for both.
class FloatKernelTest : public testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  double limit(double fp32, double bf16) const { return dtype() == DType::kFloat32 ? fp32 : bf16; }
};

#ifdef GPT2TRAIN_TEST_CUDA
inline const auto kFloatTypes = testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16);
#else
inline const auto kFloatTypes = testing::Values(DType::kFloat32, DType::kBFloat16);
#endif
inline std::string dtype_name(const testing::TestParamInfo<DType>& info) {
  return name_of(info.param);
}

}  // namespace test
}  // namespace gpt2train
