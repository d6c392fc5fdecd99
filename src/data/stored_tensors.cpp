#include "gpt2train/data/stored_tensors.h"

#include <bit>
#include <cstring>
#include <utility>

#include "gpt2train/core/convert.h"
#include "gpt2train/core/error.h"

namespace gpt2train {
namespace {

static_assert(std::endian::native == std::endian::little, "files of tensors are little-endian");

// The elements of `bytes`, of type From and in any alignment, each through `convert`.
template <class From, class To, class Convert>
std::vector<To> converted(std::span<const std::byte> bytes, Convert convert) {
  std::vector<To> result(bytes.size() / sizeof(From));
  for (std::size_t i = 0; i < result.size(); ++i) {
    From value;
    std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
    result[i] = convert(value);
  }
  return result;
}

}  // namespace

std::uint64_t element_bytes(std::string_view dtype) {
  struct Entry {
    std::string_view dtype;
    std::uint64_t bytes;
  };
  static constexpr Entry kTable[] = {{"BOOL", 1},    {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1},
                                     {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
                                     {"BF16", 2},    {"I32", 4}, {"U32", 4}, {"F32", 4},
                                     {"I64", 8},     {"U64", 8}, {"F64", 8}, {"C64", 8}};
  for (const Entry& entry : kTable) {
    if (entry.dtype == dtype) return entry.bytes;
  }
  return 0;
}

std::optional<std::uint64_t> stored_bytes(const std::vector<std::int64_t>& shape,
                                          std::string_view dtype) {
  std::uint64_t bytes = element_bytes(dtype);
  for (const std::int64_t d : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(d), &bytes)) return std::nullopt;
  }
  return bytes;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t d : shape) text += concat(text.empty() ? "" : ", ", d);
  return '(' + text + ')';
}

// Not the product of the shape: of a tensor without elements that may overflow.
std::int64_t StoredTensor::count() const {
  return static_cast<std::int64_t>(bytes.size() / element_bytes(dtype));
}

StoredTensors::StoredTensors(std::string path, std::vector<std::shared_ptr<const void>> owners,
                             std::map<std::string, StoredTensor> tensors)
    : path_(std::move(path)), owners_(std::move(owners)), tensors_(std::move(tensors)) {}

const StoredTensor& StoredTensors::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw DataError(path_, concat("no tensor \"", name, '"'));
  return found->second;
}

std::vector<float> StoredTensors::floats(const std::string& name) const {
  const StoredTensor& tensor = at(name);
  if (tensor.dtype == "F32") {
    return converted<float, float>(tensor.bytes, [](float x) { return x; });
  }
  if (tensor.dtype == "F64") {
    return converted<double, float>(tensor.bytes, [](double x) { return static_cast<float>(x); });
  }
  if (tensor.dtype == "BF16") {
    return converted<bf16, float>(tensor.bytes, [](bf16 x) { return to_float(x); });
  }
  if (tensor.dtype == "F16")
    return converted<fp16, float>(tensor.bytes, [](fp16 x) { return to_float(x); });
  throw DataError(path_,
                  concat('"', name, "\" is ", tensor.dtype, ", expected F32, F64, BF16 or F16"));
}

std::vector<std::int32_t> StoredTensors::integers(const std::string& name) const {
  const StoredTensor& tensor = at(name);
  if (tensor.dtype == "I32") {
    return converted<std::int32_t, std::int32_t>(tensor.bytes, [](std::int32_t x) { return x; });
  }
  if (tensor.dtype == "I64") {
    return converted<std::int64_t, std::int32_t>(tensor.bytes, [&](std::int64_t x) {
      const auto narrow = static_cast<std::int32_t>(x);
      if (narrow != x) throw DataError(path_, concat('"', name, "\" has ", x, ", beyond 32 bits"));
      return narrow;
    });
  }
  throw DataError(path_, concat('"', name, "\" is ", tensor.dtype, ", expected I32 or I64"));
}

}  // namespace gpt2train
