#include "src/cuda/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>

namespace gpt2train {
namespace {

// NVML's types, as its documentation gives them ("NVML API Reference Guide", version 3 of the
// process information).
using Status = int;
constexpr Status kSuccess = 0, kInsufficientSize = 7;
using NvmlDevice = void*;
struct ProcessInfo {
  unsigned pid;
  unsigned long long used_bytes;  // all ones: not available
  unsigned gpu_instance, compute_instance;
};
struct Utilization {
  unsigned gpu_percent, memory_percent;
};

class Library {
 public:
  Library() : handle_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    ready_ = handle_ != nullptr && find(init_, "nvmlInit_v2") &&
             find(device_, "nvmlDeviceGetHandleByPciBusId_v2") &&
             find(compute_, "nvmlDeviceGetComputeRunningProcesses_v3") &&
             find(graphics_, "nvmlDeviceGetGraphicsRunningProcesses_v3") &&
             find(name_, "nvmlSystemGetProcessName") &&
             find(utilization_, "nvmlDeviceGetUtilizationRates") && init_() == kSuccess;
  }

  std::vector<ProcessMemory> processes(const std::string& pci_bus_id) const {
    NvmlDevice device = nullptr;
    if (!find_device(pci_bus_id, device)) return {};
    std::vector<ProcessMemory> found;
    for (const List list : {compute_, graphics_}) {
      for (const ProcessInfo& info : listed(list, device)) {
        const int pid = static_cast<int>(info.pid);
        const bool known = std::any_of(found.begin(), found.end(),
                                       [&](const ProcessMemory& p) { return p.pid == pid; });
        if (known) continue;  // a program that computes and draws
        ProcessMemory process{.pid = pid, .name = name_of(info.pid), .bytes = {}};
        if (info.used_bytes != ~0ull) process.bytes = info.used_bytes;
        found.push_back(std::move(process));
      }
    }
    return found;
  }

  std::optional<int> utilization_percent(const std::string& pci_bus_id) const {
    NvmlDevice device = nullptr;
    Utilization rates = {};
    if (!find_device(pci_bus_id, device) || utilization_(device, &rates) != kSuccess) return {};
    return static_cast<int>(rates.gpu_percent);
  }

 private:
  using List = Status (*)(NvmlDevice, unsigned* count, ProcessInfo*);

  template <class Function>
  bool find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    return function != nullptr;
  }

  bool find_device(const std::string& pci_bus_id, NvmlDevice& device) const {
    return ready_ && device_(pci_bus_id.c_str(), &device) == kSuccess;
  }

  // Processes may come while they are counted.
  static std::vector<ProcessInfo> listed(List list, NvmlDevice device) {
    std::vector<ProcessInfo> infos(32);
    for (int attempt = 0; attempt < 4; ++attempt) {
      auto count = static_cast<unsigned>(infos.size());
      const Status status = list(device, &count, infos.data());
      if (status == kSuccess) {
        infos.resize(count);
        return infos;
      }
      if (status != kInsufficientSize) break;
      infos.resize(count + 32);
    }
    return {};
  }

  std::string name_of(unsigned pid) const {
    char path[256] = {};
    if (name_(pid, path, sizeof path) != kSuccess) return {};
    const std::string text = path;
    return text.substr(text.find_last_of('/') + 1);
  }

  void* handle_;  // for the life of the process
  bool ready_ = false;
  Status (*init_)() = nullptr;
  Status (*device_)(const char* pci_bus_id, NvmlDevice*) = nullptr;
  List compute_ = nullptr, graphics_ = nullptr;
  Status (*name_)(unsigned pid, char* name, unsigned length) = nullptr;
  Status (*utilization_)(NvmlDevice, Utilization*) = nullptr;
};

const Library& nvml() {
  static const Library library;
  return library;
}

}  // namespace

std::vector<ProcessMemory> processes_on_gpu(const std::string& pci_bus_id) {
  return nvml().processes(pci_bus_id);
}

std::optional<int> gpu_utilization_percent(const std::string& pci_bus_id) {
  return nvml().utilization_percent(pci_bus_id);
}

}  // namespace gpt2train
