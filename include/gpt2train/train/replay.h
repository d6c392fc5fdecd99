// Micro-batches that repeat. One differs from the next only in tokens and sample numbers, which its
// kernels read from the device, so a device that can record work does the rest by itself.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "gpt2train/ops/backend.h"
#include "gpt2train/ops/exec.h"
#include "gpt2train/train/plan.h"

namespace gpt2train {

// All that the launches of a micro-batch depend on. Its temporary tensors lie where they lay while
// it was recorded: with the same blocks live around it and no segment given back, that is memory
// which nobody else has.
struct MicroBatchKey {
  Plan plan = {};
  bool accumulate = false;
  float loss_scale = 1.0f;
  const void* inputs = nullptr;
  const void* targets = nullptr;
  const void* first_sample = nullptr;
  std::uint64_t segment_generation = 0;

  bool operator==(const MicroBatchKey&) const = default;
};

class Replay {
 public:
  Replay(const Backend& backend, bool enabled) : backend_(backend), enabled_(enabled) {}

  // Does `work`: the first time as it is, since segments are taken then and algorithms chosen; the
  // second time it is recorded. Never recorded while a profile or a trace is taken, which would
  // miss what is repeated.
  void run(const Exec& exec, const MicroBatchKey& key, const std::function<void()>& work);

 private:
  struct Entry {
    std::optional<MicroBatchKey> key;
    bool tried = false;
    std::unique_ptr<Recording> recording;
  };

  const Backend& backend_;
  bool enabled_;
  std::array<Entry, 2> entries_;  // of a step's first micro-batch, and of those that accumulate
};

}  // namespace gpt2train
