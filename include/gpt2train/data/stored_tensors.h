// Tensors of a file by name, whatever the format: shapes, types, and bytes that stay in the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gpt2train {

struct StoredTensor {
  std::string dtype;  // as safetensors name it: "F32", "BF16", "F64", "I32", ...
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;  // row-major, in a file's mapping; alignment is not promised
  std::int64_t count() const;
};

// Bytes of an element, or 0 for what is no dtype.
std::uint64_t element_bytes(std::string_view dtype);

// shape x dtype in bytes, or nothing when that overflows.
std::optional<std::uint64_t> stored_bytes(const std::vector<std::int64_t>& shape,
                                          std::string_view dtype);

// "(2, 3)", for messages.
std::string shape_text(const std::vector<std::int64_t>& shape);

class StoredTensors {
 public:
  // `owners` keep alive what the tensors view. `path` is for messages.
  StoredTensors(std::string path, std::vector<std::shared_ptr<const void>> owners,
                std::map<std::string, StoredTensor> tensors);

  const std::string& path() const { return path_; }
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  const std::vector<std::shared_ptr<const void>>& owners() const { return owners_; }
  // Throws DataError naming the tensor when it is not there.
  const StoredTensor& at(const std::string& name) const;
  // F32, F64, BF16 and F16 as float; I32 and I64 as int32. Throws DataError otherwise.
  std::vector<float> floats(const std::string& name) const;
  std::vector<std::int32_t> integers(const std::string& name) const;

 private:
  std::string path_;
  std::vector<std::shared_ptr<const void>> owners_;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace gpt2train
