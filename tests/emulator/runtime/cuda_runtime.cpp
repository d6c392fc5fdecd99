#include <cuda.h>
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "tests/emulator/emulator.h"

struct CUevent_st {
  std::chrono::steady_clock::time_point time;
};

namespace {

// A copy from pinned memory happens some time before the next synchronisation: until then the
// memory has to stay as it was.
struct PendingRead {
  const void* from;
  std::vector<char> bytes;
};

struct Device {
  std::map<void*, std::size_t> blocks;                          // that may be read and written
  std::map<CUdeviceptr, std::pair<void*, std::size_t>> ranges;  // of addresses, as they were mapped
  std::size_t total = std::size_t{1} << 30, used = 0;
  std::map<const void*, std::size_t> pinned;
  std::vector<PendingRead> reads;
  gpt2train::emulator::Work captured;
  std::chrono::nanoseconds clock = {};
  cudaError_t last = cudaSuccess;
};
Device& device() {
  static Device only;
  return only;
}

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) device().last = error;
  return error;
}

// A device faults where an address is not its own; so does this one. Blocks may touch.
bool in_device(const void* data, std::size_t bytes) {
  const auto& blocks = device().blocks;
  const char* at = static_cast<const char*>(data);
  const char* const end = at + bytes;
  while (at < end) {
    auto after = blocks.upper_bound(const_cast<char*>(at));
    if (after == blocks.begin()) return false;
    const auto& [begin, size] = *--after;
    const char* const block_end = static_cast<const char*>(begin) + size;
    if (at >= block_end) return false;
    at = block_end;
  }
  return true;
}

bool is_pinned(const void* data, std::size_t bytes) {
  const auto after = device().pinned.upper_bound(data);
  if (after == device().pinned.begin()) return false;
  const auto& [begin, size] = *std::prev(after);
  return static_cast<const char*>(data) + bytes <= static_cast<const char*>(begin) + size;
}

cudaError_t finish() {
  if (gpt2train::emulator::capture != nullptr) return note(cudaErrorStreamCaptureUnsupported);
  for (const PendingRead& read : device().reads) {
    if (std::memcmp(read.from, read.bytes.data(), read.bytes.size()) == 0) continue;
    std::fprintf(stderr, "emulator: pinned memory changed before the device had copied it\n");
    std::abort();
  }
  device().reads.clear();
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int number) {
  return note(number == 0 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGetDevice(int* number) {
  *number = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 8;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated GPU");
  properties->major = 8;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int) {
  std::snprintf(id, static_cast<std::size_t>(bytes), "0000:01:00.0");
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  if (bytes > device().total - device().used) return note(cudaErrorMemoryAllocation);
  if (posix_memalign(data, 512, bytes) != 0) return note(cudaErrorMemoryAllocation);
  std::memset(*data, 0xFF, bytes);  // NaNs, so that what was never written shows
  device().blocks[*data] = bytes;
  device().used += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  const auto found = device().blocks.find(data);
  if (found == device().blocks.end()) return note(cudaErrorInvalidValue);
  device().used -= found->second;
  device().blocks.erase(found);
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  if (posix_memalign(data, 512, bytes) != 0) return note(cudaErrorMemoryAllocation);
  std::memset(*data, 0xFF, bytes);
  device().pinned[*data] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  device().pinned.erase(data);
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  *total = device().total;
  *available = device().total - device().used;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  const auto reached = [bytes](const void* data) {
    return in_device(data, bytes) || is_pinned(data, bytes);
  };
  if (!reached(to) && !reached(from)) return note(cudaErrorInvalidValue);
  if (gpt2train::emulator::capture != nullptr) return note(cudaErrorStreamCaptureUnsupported);
  if (is_pinned(from, bytes)) {
    const char* const begin = static_cast<const char*>(from);
    device().reads.push_back({from, {begin, begin + bytes}});
  }
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return finish();
}

// ---- graphs: a list of what was launched --------------------------------------------------------

struct CUgraph_st {
  gpt2train::emulator::Work work;
};
struct CUgraphExec_st {
  gpt2train::emulator::Work work;
};

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  device().captured.clear();
  gpt2train::emulator::capture = &device().captured;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  gpt2train::emulator::capture = nullptr;
  *graph = new CUgraph_st{std::move(device().captured)};
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  const bool active = gpt2train::emulator::capture != nullptr;
  *status = active ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  for (const auto& each : exec->work) each();
  ++gpt2train::emulator::counts().graph_launches;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->time = std::chrono::steady_clock::now() + device().clock;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return finish();
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  *milliseconds = std::chrono::duration<float, std::milli>(stop->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  return finish();
}

cudaError_t cudaGetLastError() {
  const cudaError_t last = device().last;
  device().last = cudaSuccess;
  return last;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
  }
  return "unknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  return cudaGetErrorName(error);
}

// ---- ranges -------------------------------------------------------------------------------------

int nvtxRangePushA(const char* name) {
  gpt2train::emulator::counts().ranges.insert(name);
  return gpt2train::emulator::counts().open_ranges++;
}
int nvtxRangePop() {
  return --gpt2train::emulator::counts().open_ranges;
}

// ---- virtual memory -----------------------------------------------------------------------------

CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR";
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute, CUdevice) {
  *value = 1;
  return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(std::size_t* bytes, const CUmemAllocationProp*,
                                       CUmemAllocationGranularity_flags) {
  *bytes = std::size_t{2} << 20;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr* range, std::size_t bytes, std::size_t alignment,
                             CUdeviceptr, unsigned long long) {
  void* mapped = mmap(nullptr, bytes + alignment, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUdeviceptr begin = reinterpret_cast<CUdeviceptr>(mapped);
  *range = (begin + alignment - 1) / alignment * alignment;
  device().ranges[*range] = {mapped, bytes + alignment};
  return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr range, std::size_t) {
  const auto found = device().ranges.find(range);
  if (found == device().ranges.end()) return CUDA_ERROR_INVALID_VALUE;
  munmap(found->second.first, found->second.second);
  device().ranges.erase(found);
  return CUDA_SUCCESS;
}

// A handle is the size; physical memory has no contents until it is mapped.
CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                     const CUmemAllocationProp*, unsigned long long) {
  if (bytes > device().total - device().used) return CUDA_ERROR_OUT_OF_MEMORY;
  device().used += bytes;
  *handle = bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  device().used -= handle;
  return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr at, std::size_t bytes, std::size_t, CUmemGenericAllocationHandle,
                  unsigned long long) {
  device().blocks[reinterpret_cast<void*>(at)] = bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr at, std::size_t bytes) {
  if (device().blocks.erase(reinterpret_cast<void*>(at)) == 0) return CUDA_ERROR_INVALID_VALUE;
  mprotect(reinterpret_cast<void*>(at), bytes, PROT_NONE);
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr at, std::size_t bytes, const CUmemAccessDesc*, std::size_t) {
  void* const data = reinterpret_cast<void*>(at);
  if (mprotect(data, bytes, PROT_READ | PROT_WRITE) != 0) return CUDA_ERROR_INVALID_VALUE;
  std::memset(data, 0xFF, bytes);
  return CUDA_SUCCESS;
}

namespace gpt2train::emulator {

void set_device_bytes(std::size_t bytes) {
  device().total = bytes;
}
std::size_t device_bytes_in_use() {
  return device().used;
}
void advance_clock(std::chrono::nanoseconds by) {
  device().clock += by;
}
Counts& counts() {
  static Counts only;
  return only;
}

}  // namespace gpt2train::emulator
