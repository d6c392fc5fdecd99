// AdamW's moments as a checkpoint has them: floats, or codes of eight bits and their scales.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpt2train/data/stored_tensors.h"
#include "gpt2train/model/parameters.h"

namespace gpt2train {

std::vector<std::int64_t> dims(const Shape& shape);

// Throws DataError with what was found where a tensor is missing or has another shape.
void check_shape(const StoredTensors& file, const std::string& name, const Shape& expected);

// The scales of `blocks` blocks of the flat array; none where the moments are floats. `prefix` is
// "m." or "v.".
std::vector<float> stored_scales(const StoredTensors& file, const std::string& prefix,
                                 std::int64_t blocks);

// Of a parameter, whatever they are stored in; `scales` from stored_scales().
std::vector<float> moments(const StoredTensors& file, const std::string& prefix,
                           const Parameter& parameter, const std::vector<float>& scales);

}  // namespace gpt2train
