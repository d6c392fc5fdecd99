#include "src/cli/build_text.h"

#include <fmt/format.h>

#include "src/run/version.h"

namespace gpt2train {

std::string version_and_build() {
#ifdef __clang__
  constexpr const char* kCompiler = "clang " __clang_version__;
#else
  constexpr const char* kCompiler = "g++ " __VERSION__;
#endif
  std::string packed;
#ifdef GPT2TRAIN_HAS_ZLIB
  packed += " .gz";
#endif
#ifdef GPT2TRAIN_HAS_ZSTD
  packed += " .zst";
#endif
  return fmt::format(
      "gpt2train {}\nbuilt by:    {}, {}\nCPU kernels: for {}\nCUDA:        {}\nunpacks:    {}",
      version(), kCompiler, GPT2TRAIN_BUILD_TYPE, GPT2TRAIN_BUILT_FOR, GPT2TRAIN_CUDA_TEXT,
      packed.empty() ? " nothing" : packed);
}

}  // namespace gpt2train
