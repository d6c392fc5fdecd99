// The safetensors format (huggingface/safetensors): 8-byte little-endian header length, JSON
// header, raw tensors. The reader maps the file and trusts nothing in it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpt2train/data/stored_tensors.h"

namespace gpt2train {

class MappedFile;

class SafetensorsFile : public StoredTensors {
 public:
  // Throws DataError with path and byte offset on anything the format does not allow: a header past
  // the end, offsets that overlap, leave gaps, run backwards or overflow, sizes that disagree with
  // shapes, duplicate names, unknown dtypes, metadata that is not strings.
  explicit SafetensorsFile(const std::string& path);
  explicit SafetensorsFile(const std::shared_ptr<const MappedFile>& file);
  // Of bytes that outlive this; `path` is for messages.
  SafetensorsFile(const std::string& path, std::span<const std::byte> bytes);

  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Contents {
    std::string path;
    std::vector<std::shared_ptr<const void>> owners;
    std::map<std::string, StoredTensor> tensors;
    std::map<std::string, std::string> metadata;
  };
  explicit SafetensorsFile(Contents contents);
  static Contents parse(const std::string& path, std::span<const std::byte> bytes,
                        std::vector<std::shared_ptr<const void>> owners);

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
