// Tensors of the simulated run: a name and a size, freed as Python and autograd free them.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "gpt2train/nanogpt/nanogpt.h"

namespace gpt2train {

// Thrown within the simulation alone.
struct NanogptStopped {
  NanogptFailure failure;
};

class TorchTensor {
 public:
  TorchTensor() = default;
  TorchTensor(TorchAllocator& memory, TorchAllocator::Address address)
      : memory_(&memory), address_(address) {}
  TorchTensor(TorchTensor&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), address_(other.address_) {}
  TorchTensor& operator=(TorchTensor&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(address_, other.address_);
    other.free();
    return *this;
  }
  ~TorchTensor() { free(); }

  void free() {
    if (memory_ != nullptr) std::exchange(memory_, nullptr)->free(address_);
  }
  bool exists() const { return memory_ != nullptr; }

 private:
  TorchAllocator* memory_ = nullptr;
  TorchAllocator::Address address_ = 0;
};

// Element types of PyTorch that the run has beyond ours.
struct TorchType {
  const char* name;
  std::size_t bytes;
};
inline constexpr TorchType kInt64Type = {"int64", 8};
inline constexpr TorchType kBoolType = {"bool", 1};
inline constexpr TorchType kFloatType = {"fp32", 4};
inline constexpr TorchType kByteType = {"uint8", 1};

class TorchDevice {
 public:
  TorchDevice(std::size_t free_bytes, TorchSegments segments) : memory_(free_bytes, segments) {}

  TorchTensor tensor(const char* name, std::initializer_list<std::int64_t> shape, TorchType type) {
    std::size_t bytes = type.bytes;
    for (const std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
    const std::optional<TorchAllocator::Address> address = memory_.allocate(bytes);
    const TorchAllocator::Stats& stats = memory_.stats();
    if (!address) {
      throw NanogptStopped{{.tensor = name,
                            .shape = text_of(shape),
                            .dtype = type.name,
                            .phase = phase,
                            .requested_bytes = bytes,
                            .live_bytes = stats.allocated_bytes,
                            .reserved_bytes = stats.reserved_bytes,
                            .largest_free_block_bytes = memory_.largest_free_block_bytes()}};
    }
    std::size_t& peak = peak_by_phase[static_cast<std::size_t>(phase)];
    peak = std::max(peak, stats.allocated_bytes);
    return {memory_, *address};
  }

  const TorchAllocator::Stats& stats() const { return memory_.stats(); }

  NanogptPhase phase = NanogptPhase::kSetup;
  std::size_t peak_by_phase[kNanogptPhases] = {};

 private:
  static std::string text_of(std::initializer_list<std::int64_t> shape) {
    std::string text;
    for (const std::int64_t extent : shape) {
      text += (text.empty() ? "(" : ", ") + std::to_string(extent);
    }
    return text + ")";
  }

  TorchAllocator memory_;
};

}  // namespace gpt2train
