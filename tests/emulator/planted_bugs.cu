// Kernels that are wrong on purpose, and their right twins: each mistake must be found, by the
// emulator in any build, or by the sanitizer that looks for it. So the detectors stay alive.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {
namespace {

constexpr int kThreads = 64;

struct PlantedBug : testing::Test {
  void TearDown() override { emulator::options() = {}; }

  template <class... Parameters, class... Arguments>
  void run(void (*kernel)(Parameters...), const Arguments&... arguments) {
    gpu_launch({.grid = {blocks}, .block = {kThreads}, .shared_bytes = kThreads * 16}, kernel,
               arguments...);
  }

  unsigned blocks = 1;
  std::vector<float> out = std::vector<float>(kThreads),
                     in = std::vector<float>(8 * kThreads, 1.0f);
};

// ---- misuse that the emulator finds -------------------------------------------------------------

__global__ void barrier_in_a_branch(float* out) {
  if (threadIdx.x < 40) {
    block_barrier();
    out[threadIdx.x] = 1.0f;
  } else {
    block_barrier();
  }
}
TEST_F(PlantedBug, BarriersOfTwoBranches) {
  EXPECT_DEATH(run(barrier_in_a_branch, out.data()), "at different barriers");
}

__global__ void early_return(float* out) {
  if (threadIdx.x == 63) return;
  block_barrier();
  out[threadIdx.x] = 1.0f;
}
TEST_F(PlantedBug, ReturnBeforeABarrier) {
  for (const auto order : {emulator::Order::kForward, emulator::Order::kReverse}) {
    emulator::options().order = order;
    EXPECT_DEATH(run(early_return, out.data()),
                 "all others wait at a barrier|threads of the block returned");
  }
}

__global__ void half_a_shuffle(float* out) {
  float x = static_cast<float>(threadIdx.x);
  if (threadIdx.x % 2 == 1) x = shuffle_xor(x, 2);
  out[threadIdx.x] = x;
}
TEST_F(PlantedBug, ShuffleThatSomeLanesSkip) {
  for (const auto order : {emulator::Order::kForward, emulator::Order::kReverse}) {
    emulator::options().order = order;
    EXPECT_DEATH(run(half_a_shuffle, out.data()),
                 "returns while its warp waits|names lanes that returned");
  }
}

__global__ void two_shuffles(float* out) {
  const float x = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = threadIdx.x % 2 == 1 ? shuffle_xor(x, 2) : shuffle_xor(x, 4);
}
TEST_F(PlantedBug, ShufflesOfTwoBranches) {
  EXPECT_DEATH(run(two_shuffles, out.data()), "in different collectives");
}

__global__ void barrier_against_warp(float* out) {
  if (threadIdx.x == 5) {
    warp_barrier();
  } else {
    block_barrier();
  }
  out[threadIdx.x] = 1.0f;
}
TEST_F(PlantedBug, BarriersThatWaitForEachOther) {
  EXPECT_DEATH(run(barrier_against_warp, out.data()), "deadlock");
}

__global__ void unfinished_copy(const float* in) {
  GPU_DYNAMIC_SHARED(float, shared);
  copy_async(shared + threadIdx.x * 4, in + threadIdx.x * 4, true);
  commit_copies();
}
TEST_F(PlantedBug, CopyThatNobodyWaitsFor) {
  EXPECT_DEATH(run(unfinished_copy, in.data()), "copies that it never waited for");
}

__global__ void misaligned_copy(float* out, const float* in) {
  GPU_DYNAMIC_SHARED(float, shared);
  copy_async(shared + threadIdx.x * 4, in + 1 + threadIdx.x * 4, true);
  commit_copies();
  wait_copies<0>();
  out[threadIdx.x] = shared[threadIdx.x * 4];
}
TEST_F(PlantedBug, MisalignedCopy) {
  EXPECT_DEATH(run(misaligned_copy, out.data(), in.data()), "misaligned address");
}

__global__ void copy_out_of_bounds(const float* in) {
  GPU_DYNAMIC_SHARED(float, shared);
  copy_async(shared + (threadIdx.x + 1) * 4, in, true);
  commit_copies();
  wait_copies<0>();
}
TEST_F(PlantedBug, CopyPastTheEndOfSharedMemory) {
  EXPECT_DEATH(run(copy_out_of_bounds, in.data()), "not this block's shared memory");
}

__global__ void stray_row(std::uint32_t* out, const std::uint16_t* in) {
  std::uint32_t rows[4];
  load_matrices(rows, in);
  out[threadIdx.x] = rows[0];
}
TEST_F(PlantedBug, MatrixRowOutsideOfSharedMemory) {
  alignas(16) std::uint16_t row[8] = {};
  std::vector<std::uint32_t> registers(kThreads);
  EXPECT_DEATH(run(stray_row, registers.data(), row), "outside of shared memory");
}

__global__ void nothing() {}
TEST_F(PlantedBug, LaunchesThatADeviceRefuses) {
  EXPECT_DEATH(gpu_launch({.grid = {1}, .block = {2048}}, nothing), "bad block size");
  EXPECT_DEATH(gpu_launch({.grid = {0}, .block = {32}}, nothing), "bad grid size");
  EXPECT_DEATH(gpu_launch({.grid = {1}, .block = {32}, .shared_bytes = 100 * 1024}, nothing),
               "more dynamic shared memory");
}

// ---- mistakes that show in the results ----------------------------------------------------------

template <bool kWaits>
__global__ void copy_and_read(float* out, const float* in) {
  GPU_DYNAMIC_SHARED(float, shared);
  copy_async(shared + threadIdx.x * 4, in + threadIdx.x * 4, true);
  commit_copies();
  if (kWaits) wait_copies<0>();
  block_barrier();
  out[threadIdx.x] = shared[threadIdx.x * 4];
  wait_copies<0>();
}
TEST_F(PlantedBug, ReadingACopyBeforeItHasLandedGivesNaN) {
  run(copy_and_read<true>, out.data(), in.data());
  EXPECT_EQ(out, std::vector<float>(kThreads, 1.0f));
  run(copy_and_read<false>, out.data(), in.data());
  for (const float x : out) EXPECT_TRUE(std::isnan(x));
}

__global__ void never_written(float* out) {
  GPU_SHARED(float, shared, kThreads);
  if (threadIdx.x == 0) shared[0] = 1.0f;
  block_barrier();
  out[threadIdx.x] = shared[threadIdx.x];
}
TEST_F(PlantedBug, SharedMemoryThatWasNeverWrittenIsNaN) {
  for (int block = 0; block < 2; ++block) {  // not what an earlier block left there
    run(never_written, out.data());
    EXPECT_EQ(out[0], 1.0f);
    EXPECT_TRUE(std::isnan(out[1]));
  }
}

// ---- what AddressSanitizer and UndefinedBehaviorSanitizer find ----------------------------------

#if defined(__SANITIZE_ADDRESS__)

__global__ void past_dynamic(float* out) {
  GPU_DYNAMIC_SHARED(float, shared);
  shared[threadIdx.x + kThreads * 3 + 1] = 1.0f;
  block_barrier();
  out[threadIdx.x] = shared[threadIdx.x + kThreads * 3];
}
TEST_F(PlantedBug, WritingPastDynamicSharedMemory) {
  EXPECT_DEATH(run(past_dynamic, out.data()), "heap-buffer-overflow");
}

__global__ void past_static(float* out, int by) {
  GPU_SHARED(float, shared, kThreads);
  float* const values = shared;
  values[threadIdx.x] = 1.0f;
  block_barrier();
  out[threadIdx.x] = values[threadIdx.x + by];
}
TEST_F(PlantedBug, ReadingPastStaticSharedMemory) {
  run(past_static, out.data(), 0);
  EXPECT_DEATH(run(past_static, out.data(), 1), "heap-buffer-overflow");
}

__global__ void past_global(float* out) {
  out[threadIdx.x + 1] = 1.0f;
}
TEST_F(PlantedBug, WritingPastGlobalMemory) {
  out.shrink_to_fit();
  EXPECT_DEATH(run(past_global, out.data()), "heap-buffer-overflow");
}

__global__ void misaligned_vector(float* out, const float* in) {
  float x[4];
  load(x, in + threadIdx.x);
  out[threadIdx.x] = x[3];
}
TEST_F(PlantedBug, MisalignedVector) {
  EXPECT_DEATH(run(misaligned_vector, out.data(), in.data()), "misaligned address");
}

__global__ void past_registers(float* out, int by) {
  float values[4] = {};
  values[static_cast<int>(threadIdx.x) % 4 + by] = 1.0f;
  out[threadIdx.x] = values[3];
}
TEST_F(PlantedBug, WritingPastALocalArray) {
  run(past_registers, out.data(), 0);
  EXPECT_DEATH(run(past_registers, out.data(), 1), "out of bounds|stack-buffer-overflow");
}

#endif

// ---- what ThreadSanitizer finds, in every schedule ----------------------------------------------

#if defined(__SANITIZE_THREAD__)

// Ends the process with what ThreadSanitizer thinks of the run.
template <class Run>
void expect_race(const Run& run) {
  for (const auto order :
       {emulator::Order::kForward, emulator::Order::kReverse, emulator::Order::kRandom}) {
    emulator::options().order = order;
    EXPECT_EXIT((run(), std::exit(0)), [](int status) { return status != 0; }, "data race");
  }
}

template <bool kBarrier>
__global__ void neighbour_in_the_block(float* out) {
  GPU_SHARED(float, shared, kThreads);
  shared[threadIdx.x] = 1.0f;
  if (kBarrier) block_barrier();
  out[threadIdx.x] = shared[kThreads - 1 - threadIdx.x];
}
TEST_F(PlantedBug, MissingBlockBarrier) {
  run(neighbour_in_the_block<true>, out.data());
  expect_race([&] { run(neighbour_in_the_block<false>, out.data()); });
}

template <bool kBarrier>
__global__ void neighbour_in_the_warp(float* out) {
  GPU_SHARED(float, shared, kThreads);
  shared[threadIdx.x] = 1.0f;
  if (kBarrier) warp_barrier();
  out[threadIdx.x] = shared[threadIdx.x ^ 1];
}
TEST_F(PlantedBug, MissingWarpBarrier) {
  run(neighbour_in_the_warp<true>, out.data());
  expect_race([&] { run(neighbour_in_the_warp<false>, out.data()); });
}

template <bool kBarrier>
__global__ void reuse_of_a_tile(float* out) {
  GPU_SHARED(float, tile, kThreads);
  float sum = 0.0f;
  for (int i = 0; i < 3; ++i) {
    tile[threadIdx.x] = static_cast<float>(i);
    block_barrier();
    sum += tile[kThreads - 1 - threadIdx.x];
    if (kBarrier) block_barrier();
  }
  out[threadIdx.x] = sum;
}
TEST_F(PlantedBug, MissingBarrierBeforeATileIsReused) {
  run(reuse_of_a_tile<true>, out.data());
  expect_race([&] { run(reuse_of_a_tile<false>, out.data()); });
}

template <bool kBarrier>
__global__ void copy_of_another_thread(float* out, const float* in) {
  GPU_DYNAMIC_SHARED(float, shared);
  copy_async(shared + threadIdx.x * 4, in + threadIdx.x * 4, true);
  commit_copies();
  wait_copies<0>();
  if (kBarrier) block_barrier();
  out[threadIdx.x] = shared[(kThreads - 1 - threadIdx.x) * 4];
}
TEST_F(PlantedBug, MissingBarrierAfterACopy) {
  run(copy_of_another_thread<true>, out.data(), in.data());
  expect_race([&] { run(copy_of_another_thread<false>, out.data(), in.data()); });
}

__global__ void write_of_every_block(float* out) {
  if (threadIdx.x == 0) out[0] = static_cast<float>(blockIdx.x);
}
TEST_F(PlantedBug, BlocksThatWriteTheSameElement) {
  blocks = 4;
  expect_race([&] { run(write_of_every_block, out.data()); });
}

__global__ void lost_update(float* out) {
  out[0] += static_cast<float>(threadIdx.x);
}
TEST_F(PlantedBug, ThreadsThatAddToTheSameElement) {
  expect_race([&] { run(lost_update, out.data()); });
}

#endif

}  // namespace
}  // namespace gpt2train::cuda
