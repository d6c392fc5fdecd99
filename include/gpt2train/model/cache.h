// What generation keeps of the tokens that a model has read: each block's keys and values.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt2train/core/tensor_view.h"

namespace gpt2train {

struct KeyValueCache {
  std::vector<TensorView> k, v;  // of each block: (B, capacity, C), in the dtype of activations
  std::int64_t position = 0;     // tokens of each sequence that are in it
};

}  // namespace gpt2train
