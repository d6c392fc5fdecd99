// Stands in for NVML: a device with a desktop on it, a program of another container, and more
// processes than a first guess has room for.
#include <cstdio>
#include <cstring>

namespace {

struct ProcessInfo {
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance, compute_instance;
};
constexpr unsigned kMany = 40;

}  // namespace

extern "C" {

int nvmlInit_v2() {
  return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) {
  *device = nullptr;
  return std::strcmp(id, "0000:01:00.0") == 0 ? 0 : 6;  // not found
}

int nvmlDeviceGetComputeRunningProcesses_v3(void*, unsigned* count, ProcessInfo* infos) {
  const bool room = *count >= kMany;
  *count = kMany;
  if (!room) return 7;  // insufficient size
  for (unsigned i = 0; i < kMany; ++i) infos[i] = {100 + i, (i + 1) << 20, 0, 0};
  infos[1].used_bytes = ~0ull;
  return 0;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void*, unsigned* count, ProcessInfo* infos) {
  *count = 2;
  infos[0] = {100, 1u << 20, 0, 0};  // computes, too
  infos[1] = {7, 300u << 20, 0, 0};
  return 0;
}

int nvmlDeviceGetUtilizationRates(void*, unsigned* gpu_and_memory) {
  gpu_and_memory[0] = 97;
  gpu_and_memory[1] = 40;
  return 0;
}

int nvmlSystemGetProcessName(unsigned pid, char* name, unsigned length) {
  if (pid >= 100) return 4;  // no permission
  std::snprintf(name, length, "/usr/lib/xorg/Xorg");
  return 0;
}
}
