// Where ops run: a backend's kernels, its memory and its stream. Passed by reference as the first
// argument of every op.
#pragma once

#include "gpt2train/memory/allocator.h"
#include "kernels/table.h"

namespace gpt2train {

class Profiler;
class WorkTally;

enum class Compute : std::uint8_t {
  kRun,
  kDryRun,  // ops check shapes and take their scratch, then return: memory is real, results are not
};

// How matrix products are done, where a device has a choice.
struct MatmulMode {
  bool tf32 = false;  // float32 factors may be rounded
  bool tune = false;  // algorithms are chosen by timing them
};

class Exec {
 public:
  Exec(const KernelTable& kernels, CachingAllocator& memory, Compute compute = Compute::kRun,
       Stream stream = {}, MatmulMode matmul = {})
      : kernels_(kernels), memory_(memory), compute_(compute), stream_(stream), matmul_(matmul) {}

  const KernelTable& kernels() const { return kernels_; }
  CachingAllocator& memory() const { return memory_; }
  // Of the host, for what the settings keep off the device; it outlives the Exec.
  CachingAllocator& host_memory() const {
    GPT2_CHECK(host_memory_ != nullptr, "no host memory was given");
    return *host_memory_;
  }
  void set_host_memory(CachingAllocator* memory) { host_memory_ = memory; }
  bool dry_run() const { return compute_ == Compute::kDryRun; }
  Stream stream() const { return stream_; }
  MatmulMode matmul() const { return matmul_; }

  // Times every kernel from now on; it outlives the Exec. nullptr ends that.
  void set_profiler(Profiler* profiler) { profiler_ = profiler; }
  Profiler* profiler() const { return profiler_; }

  // Adds up, in a dry run, what every kernel would do; it outlives the Exec. nullptr ends that.
  void set_tally(WorkTally* tally) { tally_ = tally; }
  WorkTally* tally() const { return tally_; }

 private:
  const KernelTable& kernels_;
  CachingAllocator& memory_;
  Compute compute_;
  Stream stream_;
  MatmulMode matmul_;
  Profiler* profiler_ = nullptr;
  WorkTally* tally_ = nullptr;
  CachingAllocator* host_memory_ = nullptr;
};

// Names what happens within: in out-of-memory messages, and on the timeline of a device's profiler.
class [[nodiscard]] Scope {
 public:
  Scope(const Exec& exec, std::string name)
      : kernels_(exec.dry_run() ? nullptr : &exec.kernels()),
        allocations_(exec.memory(), std::move(name)) {
    if (kernels_ != nullptr && kernels_->begin_range != nullptr) {
      kernels_->begin_range(allocations_.name().c_str());
    }
  }
  ~Scope() {
    if (kernels_ != nullptr && kernels_->end_range != nullptr) kernels_->end_range();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  const KernelTable* kernels_;
  AllocScope allocations_;
};

}  // namespace gpt2train
