// The safetensors format (huggingface/safetensors): 8-byte little-endian header length, JSON
// header, raw tensors. The reader maps the file and trusts nothing in it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gpt2train/core/dtype.h"

namespace gpt2train {

class MappedFile;

struct StoredTensor {
  std::string dtype;  // as the header says: "F32", "BF16", "F64", "I32", ...
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;  // into the mapping; alignment is not promised
  std::int64_t count() const;
};

class SafetensorsFile {
 public:
  // Throws DataError with path and byte offset on anything the format does not allow: a header past
  // the end, offsets that overlap, leave gaps, run backwards or overflow, sizes that disagree with
  // shapes, duplicate names, unknown dtypes, metadata that is not strings.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();

  const std::string& path() const { return path_; }
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Throws DataError naming the tensor when it is not there.
  const StoredTensor& at(const std::string& name) const;
  // F32, F64, BF16 and F16 as float; I32 and I64 as int32. Throws DataError otherwise.
  std::vector<float> floats(const std::string& name) const;
  std::vector<std::int32_t> integers(const std::string& name) const;

 private:
  std::string path_;
  std::unique_ptr<MappedFile> file_;
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

struct TensorToStore {
  std::string name;
  std::string dtype;  // "F32", "BF16", "I8", "U8"
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;  // contiguous; a device's address is as good
};

// The bytes before the first tensor: length, then the JSON header padded with spaces to 8 bytes.
// Tensors follow in the order given.
std::string safetensors_header(std::span<const TensorToStore> tensors,
                               const std::map<std::string, std::string>& metadata);

}  // namespace gpt2train
