// Files as torch.save writes them, and pickles as it never would.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/data/zip.h"

namespace gpt2train::test {

inline std::string zip_of(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string bytes;
  ZipWriter zip([&](std::span<const std::byte> piece) {
    bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  for (const auto& [name, entry] : entries) zip.add(name, std::as_bytes(std::span(entry)));
  zip.finish();
  return bytes;
}

inline std::string torch_archive(const std::string& pickle,
                                 const std::vector<std::string>& storages) {
  std::vector<std::pair<std::string, std::string>> entries = {{"m/data.pkl", pickle},
                                                              {"m/byteorder", "little"}};
  for (std::size_t i = 0; i < storages.size(); ++i) {
    entries.emplace_back("m/data/" + std::to_string(i), storages[i]);
  }
  entries.emplace_back("m/version", "3\n");
  return zip_of(entries);
}

// Opcodes of protocol 2.
inline std::string pickled(const std::string& body) {
  return "\x80\x02" + body + ".";
}
inline std::string pickled_text(const std::string& text) {
  const auto size = static_cast<std::uint32_t>(text.size());
  return "X" + std::string(reinterpret_cast<const char*>(&size), sizeof size) + text;
}
inline std::string pickled_integer(std::int64_t value) {
  return "\x8a\x08" + std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
inline std::string pickled_sizes(const std::vector<std::int64_t>& sizes) {
  std::string body = "(";
  for (const std::int64_t size : sizes) body += pickled_integer(size);
  return body + "t";
}

struct HandmadeTensor {
  std::string type = "FloatStorage";
  std::string storage = "0";
  std::int64_t count = 0;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape = {}, strides = {};

  std::string pickle() const {
    return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickled_text("storage") + "ctorch\n" + type +
           "\n" + pickled_text(storage) + pickled_text("cpu") + pickled_integer(count) + "tQ" +
           pickled_integer(offset) + pickled_sizes(shape) + pickled_sizes(strides) +
           "\x89"
           "ccollections\nOrderedDict\n)RtR";
  }
};

// A state_dict of tensors by name, "x" and so on, as a pickle.
inline std::string pickled_dict(
    const std::vector<std::pair<std::string, HandmadeTensor>>& tensors) {
  std::string body = "}(";
  for (const auto& [name, tensor] : tensors) body += pickled_text(name) + tensor.pickle();
  return pickled(body + "u");
}

}  // namespace gpt2train::test
