// The CUDA backend from the outside: a library with one entry point.
#include <dlfcn.h>

#include <filesystem>

#include "gpt2train/core/error.h"
#include "gpt2train/ops/backend.h"

namespace gpt2train {

// Beside the program, then where it is installed with it, then wherever the linker looks. Never
// closed: its kernels and its error types are used until the process ends.
std::unique_ptr<Backend> open_cuda_backend() {
  constexpr const char* kLibrary = "libgpt2train_cuda.so";
  std::error_code unknown;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", unknown);
  std::string path = kLibrary;
  for (const char* folder : {".", GPT2TRAIN_BACKEND_PATH}) {
    const std::filesystem::path there = program.parent_path() / folder / kLibrary;
    if (path == kLibrary && std::filesystem::exists(there, unknown)) path = there;
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw DeviceError(concat("no CUDA backend: ", dlerror()));
  using Make = Backend* (*)();
  const auto make = reinterpret_cast<Make>(dlsym(library, "gpt2train_make_cuda_backend"));
  if (make == nullptr) throw DeviceError(concat("no CUDA backend: ", dlerror()));
  return std::unique_ptr<Backend>(make());
}

}  // namespace gpt2train
