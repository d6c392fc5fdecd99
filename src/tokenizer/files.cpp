#include "src/tokenizer/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

constexpr std::size_t kSmall = 256 * kMiB;

}  // namespace

void fail_file(const std::string& path, const char* verb) {
  throw DataError(path, concat("cannot ", verb, ": ", std::generic_category().message(errno)));
}

FileDescriptor open_file(const std::string& path, int flags, const char* verb) {
  FileDescriptor file(path, flags);
  if (!file.valid()) fail_file(path, verb);
  return file;
}

bool exists(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw DataError(path, concat("cannot create the directory: ", error.message()));
}

std::size_t read_some(int fd, const std::string& path, char* data, std::size_t size) {
  std::size_t total = 0;
  while (total < size) {
    const ssize_t got = read(fd, data + total, size - total);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file(path, "read");
    if (got == 0) break;
    total += static_cast<std::size_t>(got);
  }
  return total;
}

void write_all(int fd, const std::string& path, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_file(path, "write");
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void write_at(int fd, const std::string& path, std::string_view bytes, std::uint64_t offset) {
  if (lseek(fd, static_cast<off_t>(offset), SEEK_SET) < 0) fail_file(path, "seek");
  write_all(fd, path, bytes);
}

void sync(int fd, const std::string& path) {
  // Delayed allocation: some file systems report a full disk only now.
  if (fsync(fd) != 0) fail_file(path, "sync");
}

std::string read_small_file(const std::string& path) {
  const FileDescriptor file = open_file(path, O_RDONLY, "open");
  std::string text;
  for (std::size_t got = kMiB; got == kMiB;) {
    if (text.size() > kSmall) throw DataError(path, concat("has more than ", human_bytes(kSmall)));
    const std::size_t before = text.size();
    text.resize(before + kMiB);
    got = read_some(file.value(), path, text.data() + before, kMiB);
    text.resize(before + got);
  }
  return text;
}

void write_small_file(const std::string& path, std::string_view text) {
  const std::string beside = path + ".tmp";
  const FileDescriptor file = open_file(beside, O_WRONLY | O_CREAT | O_TRUNC, "create");
  write_all(file.value(), beside, text);
  sync(file.value(), beside);
  rename_durably(beside, path);
}

void rename_durably(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) fail_file(from, "rename");
  const std::string parent = std::filesystem::path(to).parent_path().string();
  const std::string directory = parent.empty() ? "." : parent;
  const FileDescriptor opened = open_file(directory, O_RDONLY | O_DIRECTORY, "open");
  sync(opened.value(), directory);
}

}  // namespace gpt2train
