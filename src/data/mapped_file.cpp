#include "gpt2train/data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "gpt2train/core/error.h"

namespace gpt2train {
namespace {

[[noreturn]] void fail(const std::string& path, const char* action) {
  throw DataError(path, concat("cannot ", action, ": ", std::generic_category().message(errno)));
}

// The mapping outlives the descriptor it is made from.
class Descriptor {
 public:
  // Not blocking, or a pipe would hang here until someone writes to it.
  explicit Descriptor(const std::string& path)
      : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) fail(path, "open");
  }
  ~Descriptor() { close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const Descriptor file(path);
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
