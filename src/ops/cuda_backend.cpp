// The CUDA backend from the outside: a library with one entry point.
#include <dlfcn.h>

#include <filesystem>

#include "gpt2train/core/error.h"
#include "gpt2train/ops/backend.h"

namespace gpt2train {

// Beside the program first, then wherever the system's linker looks. Never closed: its kernels and
// its error types are used until the process ends.
std::unique_ptr<Backend> open_cuda_backend() {
  constexpr const char* kLibrary = "libgpt2train_cuda.so";
  std::error_code unknown;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", unknown);
  const std::filesystem::path beside = program.parent_path() / kLibrary;
  const bool is_beside = std::filesystem::exists(beside, unknown);
  void* library = dlopen(is_beside ? beside.c_str() : kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw DeviceError(concat("no CUDA backend: ", dlerror()));
  using Make = Backend* (*)();
  const auto make = reinterpret_cast<Make>(dlsym(library, "gpt2train_make_cuda_backend"));
  if (make == nullptr) throw DeviceError(concat("no CUDA backend: ", dlerror()));
  return std::unique_ptr<Backend>(make());
}

}  // namespace gpt2train
