// Shape: up to four dimensions. TensorView: pointer + dtype + shape, copied freely, owning nothing.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>

#include "gpt2train/core/dtype.h"

namespace gpt2train {

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) {
    GPT2_CHECK(dims.size() <= dims_.size(), "rank ", dims.size(), " is above 4");
    for (const std::int64_t d : dims) dims_[rank_++] = d;
  }
  int rank() const { return static_cast<int>(rank_); }
  std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i)]; }
  std::int64_t back() const { return rank_ == 0 ? 1 : dims_[rank_ - 1]; }
  // Number of elements; 1 for a scalar (rank 0).
  std::int64_t count() const {
    std::int64_t n = 1;
    for (std::size_t i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  // All dimensions but the last, flattened: how ops read a (B, T, C) tensor as (B*T, C).
  std::int64_t rows() const { return back() == 0 ? 0 : count() / back(); }
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, 4> dims_{};
  std::size_t rank_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '(';
  for (int i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
  return out << ')';
}

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  Shape shape = {};

  // An absent optional operand (no bias, say) is a default-constructed view.
  bool present() const { return data != nullptr; }
  std::int64_t rows() const { return shape.rows(); }
  std::int64_t width() const { return shape.back(); }
  std::int64_t count() const { return shape.count(); }
  std::size_t bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype); }

  template <class T>
  T* as() const {
    GPT2_CHECK(dtype == DTypeOf<T>::value, "tensor is ", name_of(dtype), ", asked for ",
               name_of(DTypeOf<T>::value));
    return static_cast<T*>(data);
  }
  template <class T>
  T* as_or_null() const {
    return present() ? as<T>() : nullptr;
  }

  // Rows [first, first + count) of the flattened (rows, width) matrix.
  TensorView slice_rows(std::int64_t first, std::int64_t row_count) const {
    GPT2_CHECK(first >= 0 && row_count >= 0 && first + row_count <= rows(), "rows ", first, " + ",
               row_count, " of ", shape);
    char* begin =
        static_cast<char*>(data) + static_cast<std::size_t>(first * width()) * size_of(dtype);
    return {begin, dtype, {row_count, width()}};
  }
};

}  // namespace gpt2train
