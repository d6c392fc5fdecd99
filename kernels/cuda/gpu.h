// The device vocabulary: all that a kernel uses beyond plain CUDA C++. Each instruction is wrapped
// once, its PTX beside the body that the emulator (tests/emulator) runs, so one kernel source
// serves nvcc and the host's compiler with its sanitizers. tests/conformance checks both bodies.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "gpt2train/core/convert.h"
#include "gpt2train/core/dtype.h"
#include "kernels/stream.h"

#ifdef GPT2TRAIN_EMULATE
#include "tests/emulator/emulator.h"
#else
#include <cuda_runtime.h>

#include "kernels/cuda/check.h"
#endif

namespace gpt2train::cuda {

// ---- geometry -----------------------------------------------------------------------------------

inline constexpr int kWarp = 32;

#ifdef GPT2TRAIN_EMULATE
using Dim3 = emulator::Dim3;
using Site = emulator::Site;  // where a kernel calls: the emulator's errors name it
#else
using Dim3 = dim3;
struct Site {
  __host__ __device__ static constexpr Site current() { return {}; }
};
#endif

__device__ __forceinline__ int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ __forceinline__ int warp_index() {
  return static_cast<int>(threadIdx.x) / kWarp;
}
// Of the grid's first dimension.
__device__ __forceinline__ std::int64_t global_thread() {
  return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t global_thread_count() {
  return std::int64_t{gridDim.x} * blockDim.x;
}

// ---- conversions: round to nearest even ---------------------------------------------------------

__device__ __forceinline__ float widen(float x) {
  return x;
}
__device__ __forceinline__ float widen(bf16 x) {
#ifdef GPT2TRAIN_EMULATE
  return to_float(x);
#else
  return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16);
#endif
}
__device__ __forceinline__ float widen(fp16 x) {
#ifdef GPT2TRAIN_EMULATE
  return to_float(x);
#else
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#endif
}

template <class T>
__device__ __forceinline__ T narrow(float x) {
#ifdef GPT2TRAIN_EMULATE
  return from_float<T>(x);
#else
  if constexpr (sizeof(T) == 4) {
    return x;
  } else {
    T y;
    if constexpr (std::is_same_v<T, bf16>) {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    } else {
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    }
    return y;
  }
#endif
}

// Two 16-bit values in one register, `low` in its lower half: a piece of an mma operand.
template <class T>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
#ifdef GPT2TRAIN_EMULATE
  return from_float<T>(low).bits | static_cast<std::uint32_t>(from_float<T>(high).bits) << 16;
#else
  std::uint32_t pair;
  if constexpr (std::is_same_v<T, bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
#endif
}

// ---- memory: 16 bytes at a time where rows allow it ---------------------------------------------

// Elements of T in 16 bytes: what one thread reads or writes in one instruction.
template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

template <class T, int kCount>
struct alignas(kCount * sizeof(T)) Pack {
  T value[kCount];
};

// kOnce: not read again soon, so it may leave the cache first.
enum class Reuse { kCached, kOnce };

template <Reuse kReuse = Reuse::kCached, class T, int kCount>
__device__ __forceinline__ Pack<T, kCount> read(const Pack<T, kCount>* from) {
#ifndef GPT2TRAIN_EMULATE
  if constexpr (sizeof(*from) == 16) {
    const uint4* const at = reinterpret_cast<const uint4*>(from);
    const uint4 bits = kReuse == Reuse::kOnce ? __ldcs(at) : *at;
    Pack<T, kCount> pack;
    memcpy(&pack, &bits, 16);
    return pack;
  }
#endif
  return *from;
}

template <Reuse kReuse = Reuse::kCached, class T, int kCount>
__device__ __forceinline__ void write(Pack<T, kCount>* to, const Pack<T, kCount>& pack) {
#ifndef GPT2TRAIN_EMULATE
  if constexpr (sizeof(pack) == 16) {
    uint4 bits;
    memcpy(&bits, &pack, 16);
    uint4* const at = reinterpret_cast<uint4*>(to);
    if constexpr (kReuse == Reuse::kOnce) {
      __stcs(at, bits);
    } else {
      *at = bits;
    }
    return;
  }
#endif
  *to = pack;
}

// kCount consecutive elements as floats; `from` is aligned to all of them.
template <Reuse kReuse = Reuse::kCached, int kCount, class T>
__device__ __forceinline__ void load(float (&to)[kCount], const T* from) {
  if constexpr (sizeof(T) * kCount > 16) {
#pragma unroll
    for (int i = 0; i < kCount; i += kVector<T>) {
      const auto pack = read<kReuse>(reinterpret_cast<const Pack<T, kVector<T>>*>(from + i));
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) to[i + j] = widen(pack.value[j]);
    }
  } else {
    const auto pack = read<kReuse>(reinterpret_cast<const Pack<T, kCount>*>(from));
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = widen(pack.value[i]);
  }
}

template <Reuse kReuse = Reuse::kCached, int kCount, class T>
__device__ __forceinline__ void store(T* to, const float (&from)[kCount]) {
  constexpr int kEach = sizeof(T) * kCount > 16 ? kVector<T> : kCount;
#pragma unroll
  for (int i = 0; i < kCount; i += kEach) {
    Pack<T, kEach> pack;
#pragma unroll
    for (int j = 0; j < kEach; ++j) pack.value[j] = narrow<T>(from[i + j]);
    write<kReuse>(reinterpret_cast<Pack<T, kEach>*>(to + i), pack);
  }
}

// GPU_SHARED declares an array of the block; GPU_DYNAMIC_SHARED names the memory that a launch
// gives (shared_bytes), aligned to 128 bytes.
#ifdef GPT2TRAIN_EMULATE
#define GPU_SHARED(T, name, count) T(&name)[count] = emulator::shared_array<T, count>([] {})
#define GPU_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(emulator::dynamic_shared(128, Site::current()))
#else
#define GPU_SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define GPU_DYNAMIC_SHARED(T, name)                                    \
  extern __shared__ __align__(128) unsigned char gpu_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(gpu_dynamic_shared)
#endif

// ---- arithmetic ---------------------------------------------------------------------------------

// 2^x within 2 ulp; subnormal results become 0.
__device__ __forceinline__ float exp2_approximate(float x) {
#ifdef GPT2TRAIN_EMULATE
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// ---- a warp -------------------------------------------------------------------------------------

// The value of the lane whose index differs in the bits of lane_mask. All 32 lanes take part.
__device__ __forceinline__ float shuffle_xor(float x, int lane_mask,
                                             [[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  const auto bits = emulator::shuffle_xor(std::bit_cast<std::uint32_t>(x), lane_mask, site);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits));
#else
  return __shfl_xor_sync(0xFFFFFFFFu, x, lane_mask);
#endif
}
__device__ __forceinline__ double shuffle_xor(double x, int lane_mask,
                                              [[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  return std::bit_cast<double>(
      emulator::shuffle_xor(std::bit_cast<std::uint64_t>(x), lane_mask, site));
#else
  return __shfl_xor_sync(0xFFFFFFFFu, x, lane_mask);
#endif
}
// The value of one lane.
__device__ __forceinline__ std::uint32_t shuffle_from(
    std::uint32_t x, int lane, [[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  return static_cast<std::uint32_t>(emulator::shuffle_from(x, lane, site));
#else
  return __shfl_sync(0xFFFFFFFFu, x, lane);
#endif
}

// Bit i: whether lane i votes for it.
__device__ __forceinline__ std::uint32_t ballot(bool vote,
                                                [[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  return emulator::ballot(vote, site);
#else
  return __ballot_sync(0xFFFFFFFFu, vote);
#endif
}

// Of all lanes, in every lane, summed in one order.
template <class T>
__device__ __forceinline__ T warp_sum(T x, Site site = Site::current()) {
#pragma unroll
  for (int lane_mask = kWarp / 2; lane_mask > 0; lane_mask /= 2) {
    x += shuffle_xor(x, lane_mask, site);
  }
  return x;
}
__device__ __forceinline__ float warp_max(float x, Site site = Site::current()) {
#pragma unroll
  for (int lane_mask = kWarp / 2; lane_mask > 0; lane_mask /= 2) {
    x = fmaxf(x, shuffle_xor(x, lane_mask, site));
  }
  return x;
}

// ---- order --------------------------------------------------------------------------------------

// All threads of the block are here, and see what the others wrote before.
__device__ __forceinline__ void block_barrier([[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  emulator::block_barrier(site);
#else
  __syncthreads();
#endif
}
__device__ __forceinline__ void warp_barrier([[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  emulator::warp_barrier(~0u, site);
#else
  __syncwarp();
#endif
}

// ---- copies from global to shared memory that do not wait ---------------------------------------

// 16 bytes, zeros unless `present`; both addresses are aligned to 16.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool present,
                                           [[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  emulator::copy_async(to, from, 16, present, site);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(present ? 16 : 0)
               : "memory");
#endif
}
// Ends a group: the copies that this thread issued since the last one.
__device__ __forceinline__ void commit_copies() {
#ifdef GPT2TRAIN_EMULATE
  emulator::commit_copies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// This thread's groups have landed, all but the newest kPending; a barrier shows them to the block.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
#ifdef GPT2TRAIN_EMULATE
  emulator::wait_copies(kPending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

// ---- matrices of 16-bit values in the registers of a warp ---------------------------------------

// Four 8 x 8 matrices from shared memory: lane i gives row i % 8 of matrix i / 8, 16 bytes aligned
// to 16, and gets of matrix j the values (i / 4, 2 (i % 4)) and the next one in to[j].
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], const void* row,
                                              [[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) emulator::fail("misaligned row", site);
  if (!emulator::in_shared(row, 16)) emulator::fail("a row outside of shared memory", site);
  const void* rows[32];
  emulator::gather_rows(row, rows, site);
  for (int j = 0; j < 4; ++j) {
    const char* from = static_cast<const char*>(rows[8 * j + lane_index() / 4]);
    std::memcpy(&to[j], from + 4 * (lane_index() % 4), 4);
  }
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#endif
}
// The same of the transposed matrices: lane i gets (2 (i % 4), i / 4) and the one below.
__device__ __forceinline__ void load_matrices_transposed(
    std::uint32_t (&to)[4], const void* row, [[maybe_unused]] Site site = Site::current()) {
#ifdef GPT2TRAIN_EMULATE
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) emulator::fail("misaligned row", site);
  if (!emulator::in_shared(row, 16)) emulator::fail("a row outside of shared memory", site);
  const void* rows[32];
  emulator::gather_rows(row, rows, site);
  for (int j = 0; j < 4; ++j) {
    std::uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      const char* from = static_cast<const char*>(rows[8 * j + 2 * (lane_index() % 4) + i]);
      std::memcpy(&pair[i], from + 2 * (lane_index() / 4), 2);
    }
    to[j] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
  }
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#endif
}

// d += a b: a (16, 16) by rows, b (16, 8) by columns, d (16, 8) in fp32. With g = lane / 4 and
// t = lane % 4: a holds (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), each with its right
// neighbour; b (2t, g) and (2t + 8, g), each with the one below; d (g, 2t) and (g + 8, 2t), each
// with its right neighbour. PTX ISA, "Matrix Fragments for mma.m16n8k16".
template <class T>
__device__ __forceinline__ void multiply_add(float (&d)[4], const std::uint32_t (&a)[4],
                                             std::uint32_t b0, std::uint32_t b1,
                                             [[maybe_unused]] Site site = Site::current()) {
  static_assert(sizeof(T) == 2);
#ifdef GPT2TRAIN_EMULATE
  const std::uint32_t b[2] = {b0, b1};
  emulator::multiply_add(d, a, b, std::is_same_v<T, bf16>, site);
#else
  if constexpr (std::is_same_v<T, bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#endif
}

// ---- launches, from the host --------------------------------------------------------------------

struct Launch {
  Dim3 grid = {};
  Dim3 block = {};
  std::size_t shared_bytes = 0;  // of GPU_DYNAMIC_SHARED
  Stream stream = {};
};

// Blocks of a grid's first dimension.
inline unsigned blocks_for(std::int64_t count, std::int64_t each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

// Throws CudaError where the launch is refused.
template <class... Parameters, class... Arguments>
void gpu_launch(const Launch& launch, void (*kernel)(Parameters...),
                const Arguments&... arguments) {
#ifdef GPT2TRAIN_EMULATE
  emulator::launch(
      launch.grid, launch.block, launch.shared_bytes,
      [kernel, ... values = static_cast<Parameters>(arguments)] { kernel(values...); },
      Site::current());
#else
  if (launch.shared_bytes > 48 * 1024) {
    GPT2_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(launch.shared_bytes)));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = launch.grid;
  config.blockDim = launch.block;
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = static_cast<cudaStream_t>(launch.stream.handle);
  GPT2_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
#endif
}

}  // namespace gpt2train::cuda
