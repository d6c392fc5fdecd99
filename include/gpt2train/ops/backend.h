// A device as a run needs it: kernels, memory, a stream. The CPU's is always there; CUDA's is a
// shared library that is opened when it is asked for, so the program itself needs no CUDA.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/memory/upstream.h"
#include "gpt2train/ops/profiler.h"
#include "kernels/table.h"

namespace gpt2train {

struct DeviceInfo {
  std::string name;  // "AMD EPYC 7B13, 4 threads", "NVIDIA GeForce RTX 3060, sm_86"
  std::size_t total_bytes = 0;
  std::size_t available_bytes = 0;  // now, to this process
  std::size_t unseen_bytes = 0;     // of these, what libraries will take that no ledger sees
};

struct ProcessMemory {
  int pid = 0;
  std::string name;                  // empty where it is not told
  std::optional<std::size_t> bytes;  // likewise
};

// Work that a device repeats by itself, at the cost of one launch: the same kernels on the same
// addresses with the same arguments.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay(Stream stream) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const KernelTable& kernels() const = 0;
  // The same with attention by cuDNN, for this shape and for other batches of it. Throws
  // DeviceError, with the reason, where that is not to be had.
  virtual const KernelTable& kernels_with_cudnn(const AttentionShape&) const {
    throw DeviceError("attention by cuDNN needs a CUDA device");
  }
  virtual Upstream& upstream() = 0;  // outlived by the backend
  virtual Stream stream() const = 0;
  virtual bool computes(DType dtype) const = 0;
  virtual std::unique_ptr<Stopwatch> stopwatch() const = 0;
  virtual DeviceInfo info() const = 0;
  // Who has memory on the device, this process among them; empty where nobody tells, as on a CPU.
  virtual std::vector<ProcessMemory> processes() const { return {}; }
  // Share of the last second or so in which the device worked, for whomever; nothing where nobody
  // tells.
  virtual std::optional<int> utilization_percent() const { return {}; }

  // Host memory, aligned to 512 bytes, that the device copies from while the host goes on: it must
  // stay as it is until a download has come back. Kernels reach it, too. Ordinary memory on a CPU.
  virtual std::shared_ptr<void> host_memory(std::size_t bytes) const {
    constexpr std::align_val_t kAlignment{512};
    return std::shared_ptr<void>(::operator new(bytes, kAlignment),
                                 [](void* p) { ::operator delete(p, kAlignment); });
  }

  // What `work` asks of the stream, without doing it; null where the device cannot, or has no
  // memory left for it. `work` must not wait for the device. What it throws is passed on.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& /*work*/) const {
    return nullptr;
  }
};

// Throws DeviceError where the kernels were compiled for another processor.
std::unique_ptr<Backend> open_cpu_backend();

// Throws DeviceError with the reason where there is no library, no driver or no device.
std::unique_ptr<Backend> open_cuda_backend();

}  // namespace gpt2train
