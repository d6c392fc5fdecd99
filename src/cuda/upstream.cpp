#include "src/cuda/upstream.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "gpt2train/core/units.h"
#include "kernels/cuda/check.h"

namespace gpt2train {
namespace {

constexpr std::size_t kPiece = 2 * kMiB;

void check_driver(CUresult status, const char* call, int line) {
  if (status == CUDA_SUCCESS) return;
  const char* name = "unknown error";
  static_cast<void>(cuGetErrorName(status, &name));
  throw DeviceError(concat(call, " at ", __FILE__, ':', line, ": ", name));
}
#define GPT2_DRIVER_CHECK(call) check_driver((call), #call, __LINE__)

CUmemAllocationProp pinned_to(int device) {
  CUmemAllocationProp properties = {};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  return properties;
}

}  // namespace

void* CudaUpstream::try_allocate(std::size_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // or a later call would report it
    return nullptr;
  }
  GPT2_CUDA_CHECK(status);
  return data;
}

// Waits for kernels that still use it. Where this fails the context is lost, and the next call
// reports that.
void CudaUpstream::deallocate(void* pointer, std::size_t) noexcept {
  static_cast<void>(cudaFree(pointer));
}

void* CudaUpstream::reserve(std::size_t bytes) {
  int supported = 0;
  GPT2_DRIVER_CHECK(cuDeviceGetAttribute(
      &supported, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device_));
  if (supported == 0) return nullptr;
  std::size_t granularity = 0;
  const CUmemAllocationProp properties = pinned_to(device_);
  GPT2_DRIVER_CHECK(
      cuMemGetAllocationGranularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
  if (kPiece % granularity != 0) return nullptr;
  CUdeviceptr range = 0;
  GPT2_DRIVER_CHECK(cuMemAddressReserve(&range, bytes, kPiece, 0, 0));
  return reinterpret_cast<void*>(range);
}

void CudaUpstream::unreserve(void* range, std::size_t bytes) noexcept {
  static_cast<void>(cuMemAddressFree(reinterpret_cast<CUdeviceptr>(range), bytes));
}

bool CudaUpstream::commit(void* at, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(at);
  for (std::size_t done = 0; done < bytes; done += kPiece) {
    if (commit_piece(begin + done)) continue;
    decommit(at, done);
    return false;
  }
  CUmemAccessDesc access = {};
  access.location = pinned_to(device_).location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  GPT2_DRIVER_CHECK(cuMemSetAccess(begin, bytes, &access, 1));
  return true;
}

bool CudaUpstream::commit_piece(std::uintptr_t at) {
  const CUmemAllocationProp properties = pinned_to(device_);
  CUmemGenericAllocationHandle handle = 0;
  const CUresult status = cuMemCreate(&handle, kPiece, &properties, 0);
  if (status == CUDA_ERROR_OUT_OF_MEMORY) return false;
  GPT2_DRIVER_CHECK(status);
  GPT2_DRIVER_CHECK(cuMemMap(at, kPiece, 0, handle, 0));
  pieces_[at] = handle;
  return true;
}

// Unlike cudaFree, unmapping waits for nobody.
void CudaUpstream::decommit(void* at, std::size_t bytes) noexcept {
  static_cast<void>(cudaDeviceSynchronize());
  const auto begin = reinterpret_cast<std::uintptr_t>(at);
  for (std::size_t done = 0; done < bytes; done += kPiece) {
    const auto piece = pieces_.find(begin + done);
    static_cast<void>(cuMemUnmap(piece->first, kPiece));
    static_cast<void>(cuMemRelease(piece->second));
    pieces_.erase(piece);
  }
}

}  // namespace gpt2train
