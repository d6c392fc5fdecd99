#include "src/cli/version.h"

#include "gpt2train_version.h"

namespace gpt2train {

const char* version() {
  return GPT2TRAIN_VERSION;
}

}  // namespace gpt2train
