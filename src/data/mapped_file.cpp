#include "gpt2train/data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "gpt2train/core/error.h"
#include "src/core/file_descriptor.h"

namespace gpt2train {
namespace {

[[noreturn]] void fail(const std::string& path, const char* action) {
  throw DataError(path, concat("cannot ", action, ": ", std::generic_category().message(errno)));
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  // Not blocking, or a pipe would hang here until someone writes to it. The mapping outlives the
  // descriptor that it is made from.
  const FileDescriptor file(path, O_RDONLY | O_NONBLOCK);
  if (!file.valid()) fail(path, "open");
  struct stat status {};
  if (fstat(file.value(), &status) != 0) fail(path, "stat");
  if (S_ISDIR(status.st_mode)) throw DataError(path, "is a directory, expected a file");
  if (!S_ISREG(status.st_mode)) throw DataError(path, "is not a regular file");
  if (status.st_size == 0) throw DataError(path, "the file is empty");

  const auto size = static_cast<std::size_t>(status.st_size);
  void* start = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value(), 0);
  if (start == MAP_FAILED) fail(path, "map");
  bytes_ = {static_cast<const std::byte*>(start), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace gpt2train
