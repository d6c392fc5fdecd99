// Files of a checkpoint: summed while they are written, and read back the same way.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "src/core/file_descriptor.h"

namespace gpt2train {

inline constexpr std::size_t kPiece = 64 * kKiB;  // of a file, checksummed while it is in cache

inline std::string words(int code) {
  return std::generic_category().message(code);
}

// Streaming XXH3 of 128 bits.
class Checksum {
 public:
  Checksum() { XXH3_128bits_reset(state_.get()); }
  void update(const void* data, std::size_t size) { XXH3_128bits_update(state_.get(), data, size); }
  std::string hex() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_{XXH3_createState()};
};

inline std::string checksum_of(std::string_view text) {
  Checksum checksum;
  checksum.update(text.data(), text.size());
  return checksum.hex();
}

// What the manifest says of a file.
struct FileSum {
  std::uint64_t bytes = 0;
  std::string checksum = {};
};

// Writes one file of a checkpoint and sums it on the way.
class FileWriter {
 public:
  // `space` explains a full disk: what the checkpoint needs and what was free.
  FileWriter(std::string path, std::string space)
      : path_(std::move(path)),
        space_(std::move(space)),
        file_(path_, O_WRONLY | O_CREAT | O_EXCL) {
    if (!file_.valid()) fail_here("create");
  }

  void write(std::span<const std::byte> data) {
    while (!data.empty()) {
      const std::span<const std::byte> piece = data.first(std::min(kPiece, data.size()));
      checksum_.update(piece.data(), piece.size());
      write_piece(piece);
      data = data.subspan(piece.size());
    }
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

  FileSum finish() {
    // Delayed allocation: some file systems report a full disk only now.
    if (fsync(file_.value()) != 0) fail_here("sync");
    return {bytes_, checksum_.hex()};
  }

 private:
  void write_piece(std::span<const std::byte> piece) {
    while (!piece.empty()) {
      const ssize_t written = ::write(file_.value(), piece.data(), piece.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_here("write");
      bytes_ += static_cast<std::uint64_t>(written);
      piece = piece.subspan(static_cast<std::size_t>(written));
    }
  }

  [[noreturn]] void fail_here(const char* action) const {
    const int code = errno;
    const bool full = code == ENOSPC || code == EDQUOT;
    throw CheckpointError(path_, concat("cannot ", action, ": ", words(code), full ? space_ : ""));
  }

  std::string path_;
  std::string space_;
  FileDescriptor file_;
  Checksum checksum_;
  std::uint64_t bytes_ = 0;
};

// Hands the file's bytes to `use`, piece by piece; returns why it could not. Plain reads: a bad
// sector is an error here, and would be a SIGBUS in a mapping.
template <class Use>
std::optional<std::string> read_file(const std::string& path, Use use) {
  const FileDescriptor file(path, O_RDONLY);
  if (!file.valid()) return concat("cannot open: ", words(errno));
  std::vector<char> piece(kPiece);
  for (;;) {
    const ssize_t got = read(file.value(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return concat("cannot read: ", words(errno));
    if (got == 0) return std::nullopt;
    use(std::string_view(piece.data(), static_cast<std::size_t>(got)));
  }
}

inline std::optional<std::string> read_text(const std::string& path, std::string& text) {
  return read_file(path, [&](std::string_view piece) { text += piece; });
}

inline std::optional<std::string> sum_file(const std::string& path, FileSum& sum) {
  Checksum checksum;
  const auto problem = read_file(path, [&](std::string_view piece) {
    checksum.update(piece.data(), piece.size());
    sum.bytes += piece.size();
  });
  sum.checksum = checksum.hex();
  return problem;
}

}  // namespace gpt2train
