#include "src/train/stored_moments.h"

#include "gpt2train/core/error.h"
#include "gpt2train/core/moment_code.h"

namespace gpt2train {
namespace {

template <class Code>
std::vector<float> decoded(const StoredTensor& tensor, const Parameter& parameter,
                           const std::vector<float>& scales) {
  const auto* codes = reinterpret_cast<const Code*>(tensor.bytes.data());
  std::vector<float> values(tensor.bytes.size());
  for (std::int64_t i = 0; i < std::ssize(values); ++i) {
    values[i] = decode(codes[i], scales[(parameter.offset + i) / kCodeBlock]);
  }
  return values;
}

}  // namespace

std::vector<std::int64_t> dims(const Shape& shape) {
  std::vector<std::int64_t> result;
  for (int i = 0; i < shape.rank(); ++i) result.push_back(shape[i]);
  return result;
}

void check_shape(const StoredTensors& file, const std::string& name, const Shape& expected) {
  const std::vector<std::int64_t>& shape = file.at(name).shape;
  if (shape == dims(expected)) return;
  std::string found;
  for (const std::int64_t d : shape) found += concat(found.empty() ? "" : ", ", d);
  throw DataError(file.path(),
                  concat(name, ": expected shape ", expected, ", found (", found, ')'));
}

std::vector<float> stored_scales(const StoredTensors& file, const std::string& prefix,
                                 std::int64_t blocks) {
  const std::string name = prefix + "scales";
  if (!file.tensors().contains(name)) return {};
  check_shape(file, name, {blocks});
  return file.floats(name);
}

std::vector<float> moments(const StoredTensors& file, const std::string& prefix,
                           const Parameter& parameter, const std::vector<float>& scales) {
  const std::string name = prefix + parameter.name;
  check_shape(file, name, parameter.shape);
  const StoredTensor& tensor = file.at(name);
  if (scales.empty()) return file.floats(name);
  if (tensor.dtype == "I8") return decoded<std::int8_t>(tensor, parameter, scales);
  if (tensor.dtype == "U8") return decoded<std::uint8_t>(tensor, parameter, scales);
  throw DataError(file.path(), concat(name, " is ", tensor.dtype, " beside scales"));
}

}  // namespace gpt2train
