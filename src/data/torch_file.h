// torch.save's file: a ZIP archive NAME with NAME/data.pkl, a pickle whose tensors refer to the
// entries NAME/data/0, NAME/data/1, ... by their names.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gpt2train/data/weights_file.h"

namespace gpt2train {

// A state_dict, or a nanoGPT checkpoint, which has one as "model" and its settings as "model_args".
// Names are as the file has them.
WeightsFile parse_torch_file(const std::string& path, std::span<const std::byte> bytes,
                             std::vector<std::shared_ptr<const void>> owners);

}  // namespace gpt2train
