#include "gpt2train/core/cache_folder.h"

#include <cstdlib>

namespace gpt2train {

std::string cache_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const std::string own = variable("GPT2TRAIN_CACHE_DIR"); !own.empty()) return own;
  if (const std::string xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/gpt2train";
  if (const std::string home = variable("HOME"); !home.empty()) return home + "/.cache/gpt2train";
  return {};
}

}  // namespace gpt2train
