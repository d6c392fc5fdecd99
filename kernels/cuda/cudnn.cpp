#include "kernels/cuda/cudnn.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>

namespace gpt2train::cuda {
namespace {

// Before 9.16, attention's gradients need a padding mask where a length is no multiple of 128.
constexpr std::size_t kOldestVersion = 91600;

Cudnn open_cudnn() {
  void* const library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw DeviceError(concat("no cuDNN: ", dlerror()));
  const auto find = [&]<class Function>(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) throw DeviceError(concat("no cuDNN: ", dlerror()));
  };
  Cudnn found;
  find(found.version, "cudnnGetVersion");
  find(found.error_string, "cudnnGetErrorString");
  find(found.last_error_string, "cudnnGetLastErrorString");
  find(found.create, "cudnnCreate");
  find(found.set_stream, "cudnnSetStream");
  find(found.create_descriptor, "cudnnBackendCreateDescriptor");
  find(found.destroy_descriptor, "cudnnBackendDestroyDescriptor");
  find(found.set_attribute, "cudnnBackendSetAttribute");
  find(found.get_attribute, "cudnnBackendGetAttribute");
  find(found.finalize, "cudnnBackendFinalize");
  find(found.execute, "cudnnBackendExecute");
  if (const std::size_t version = found.version(); version < kOldestVersion) {
    throw DeviceError(concat("no cuDNN: libcudnn.so.9 is version ", version, ", expected ",
                             kOldestVersion, " or later"));
  }
  return found;
}

}  // namespace

const Cudnn& cudnn() {
  static const Cudnn kCudnn = open_cudnn();
  return kCudnn;
}

std::string cudnn_last_error() {
  std::array<char, 512> text = {};
  cudnn().last_error_string(text.data(), text.size() - 1);
  std::string line = text.data();
  std::replace(line.begin(), line.end(), '\n', ' ');  // messages are one line
  return line;
}

}  // namespace gpt2train::cuda
