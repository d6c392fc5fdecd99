#include "src/run/version.h"

#include "src/run/version_text.h"

namespace gpt2train {

const char* version() {
  return GPT2TRAIN_VERSION;
}

}  // namespace gpt2train
