// Owning, move-only memory from a CachingAllocator. Buffer is the only type that calls deallocate;
// Tensor is a Buffer with its view.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

#include "gpt2train/core/tensor_view.h"
#include "gpt2train/memory/allocator.h"

namespace gpt2train {

class Buffer {
 public:
  Buffer() = default;
  Buffer(CachingAllocator& owner, std::size_t bytes, const BlockLabel& label)
      : owner_(&owner), data_(owner.allocate(bytes, label)), bytes_(bytes) {}
  ~Buffer() { reset(); }

  Buffer(const Buffer&) = delete;  // a hidden device copy is never what the caller meant
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    swap(taken);
    return *this;
  }

  void* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

  void reset() noexcept {
    if (data_ != nullptr) owner_->deallocate(data_);
    owner_ = nullptr;
    data_ = nullptr;
    bytes_ = 0;
  }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  CachingAllocator* owner_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(CachingAllocator& memory, Tag tag, std::string_view name, DType dtype, Shape shape)
      : buffer_(memory, static_cast<std::size_t>(shape.count()) * size_of(dtype),
                {.tag = tag, .tensor = name, .shape = shape, .dtype = dtype}),
        view_{buffer_.data(), dtype, shape} {}
  Tensor(Tensor&& other) noexcept
      : buffer_(std::move(other.buffer_)), view_(std::exchange(other.view_, {})) {}
  Tensor& operator=(Tensor&& other) noexcept {
    buffer_ = std::move(other.buffer_);
    view_ = std::exchange(other.view_, {});
    return *this;
  }

  // NOLINTNEXTLINE(google-explicit-constructor): an op reads a tensor as its view.
  operator TensorView() const { return view_; }
  const TensorView& view() const { return view_; }
  bool present() const { return view_.present(); }

  void reset() noexcept {
    buffer_.reset();
    view_ = {};
  }

 private:
  Buffer buffer_;
  TensorView view_;
};

}  // namespace gpt2train
