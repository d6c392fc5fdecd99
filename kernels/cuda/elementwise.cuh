// Kernels over flat arrays: a thread has eight consecutive elements, 16 bytes an access.
#pragma once

#include "kernels/cuda/gpu.h"

namespace gpt2train::cuda {

inline constexpr int kElements = 8;

// Body has `template <int kCount> void operator()(first)` for elements [first, first + kCount).
template <int kCount, class Body>
__global__ void __launch_bounds__(256, 2) elementwise_kernel(std::int64_t count, Body body) {
  const std::int64_t first = global_thread() * kCount;
  if (first + kCount <= count) return body.template operator()<kCount>(first);
  for (std::int64_t i = first; i < count; ++i) body.template operator()<1>(i);
}

// `vector`: every access of eight elements is aligned; else they go one at a time.
template <class Body>
void elementwise(std::int64_t count, bool vector, Stream stream, const Body& body) {
  if (count == 0) return;  // a grid of no blocks is an error
  constexpr int kBlock = 256;
  if (vector) {
    gpu_launch(
        {.grid = {blocks_for(count, kBlock * kElements)}, .block = {kBlock}, .stream = stream},
        elementwise_kernel<kElements, Body>, count, body);
  } else {
    gpu_launch({.grid = {blocks_for(count, kBlock)}, .block = {kBlock}, .stream = stream},
               elementwise_kernel<1, Body>, count, body);
  }
}

// Of arrays that are read and written by the same index. Slices of odd rows may begin anywhere.
template <class... Pointers>
bool all_aligned(Pointers... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

}  // namespace gpt2train::cuda
