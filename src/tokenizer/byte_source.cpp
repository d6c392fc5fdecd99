#include "src/tokenizer/byte_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#ifdef GPT2TRAIN_HAS_ZLIB
#include <zlib.h>
#endif
#ifdef GPT2TRAIN_HAS_ZSTD
#include <zstd.h>
#endif

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "src/tokenizer/files.h"

namespace gpt2train {
namespace {

constexpr std::size_t kBlock = 256 * kKiB;

// A file with a few bytes read ahead, to know what it is.
class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(const std::string& path)
      : path_(path),
        file_(path == "-" ? open_file("/dev/stdin", O_RDONLY, "open")
                          : open_file(path, O_RDONLY, "open")) {
    char start[4];
    start_.assign(start, read_some(file_.value(), path_, start, sizeof start));
    bytes_read_ = start_.size();
  }

  bool starts_with(std::string_view magic) const { return start_.starts_with(magic); }
  const std::string& path() const { return path_; }
  std::uint64_t packed_bytes_read() const override { return bytes_read_; }

  std::size_t read(char* data, std::size_t size) override {
    const std::size_t ahead = std::min(size, start_.size());
    std::memcpy(data, start_.data(), ahead);
    start_.erase(0, ahead);
    const std::size_t got = read_some(file_.value(), path_, data + ahead, size - ahead);
    bytes_read_ += got;
    return ahead + got;
  }

 private:
  std::string path_;
  FileDescriptor file_;
  std::string start_;
  std::uint64_t bytes_read_ = 0;
};

// Unpacks by `Unpacker`: its step() takes some of the input and makes some output.
template <class Unpacker>
class PackedSource final : public ByteSource {
 public:
  explicit PackedSource(std::unique_ptr<PlainSource> plain)
      : plain_(std::move(plain)), unpacker_(plain_->path()), block_(kBlock) {}

  std::uint64_t packed_bytes_read() const override { return plain_->packed_bytes_read(); }

  std::size_t read(char* data, std::size_t size) override {
    std::size_t made = 0;
    while (made < size) {
      if (rest_.empty()) {
        rest_ = {block_.data(), plain_->read(block_.data(), block_.size())};
        if (rest_.empty()) {
          if (!unpacker_.complete()) {
            throw DataError(plain_->path(), plain_->packed_bytes_read(),
                            "the packed data is cut off");
          }
          break;
        }
      }
      made += unpacker_.step(rest_, data + made, size - made);
    }
    return made;
  }

 private:
  std::unique_ptr<PlainSource> plain_;
  Unpacker unpacker_;
  std::vector<char> block_;
  std::string_view rest_;  // of the block, not unpacked yet
};

#ifdef GPT2TRAIN_HAS_ZLIB
// Several members one after the other are one text, as gzip has it.
class Gzip {
 public:
  explicit Gzip(std::string path) : path_(std::move(path)) {
    GPT2_CHECK(inflateInit2(&stream_, 15 + 16) == Z_OK, "zlib does not start");
  }
  ~Gzip() { inflateEnd(&stream_); }
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;

  bool complete() const { return complete_; }

  std::size_t step(std::string_view& in, char* out, std::size_t size) {
    if (complete_) inflateReset(&stream_);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(std::min(size, kBlock));
    const std::size_t room = stream_.avail_out;
    const int status = inflate(&stream_, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
      throw DataError(path_,
                      concat("gzip: ", stream_.msg != nullptr ? stream_.msg : "damaged data"));
    }
    complete_ = status == Z_STREAM_END;
    in.remove_prefix(in.size() - stream_.avail_in);
    return room - stream_.avail_out;
  }

 private:
  std::string path_;
  z_stream stream_{};
  bool complete_ = false;
};
#endif

#ifdef GPT2TRAIN_HAS_ZSTD
class Zstd {
 public:
  explicit Zstd(std::string path) : path_(std::move(path)) {}

  bool complete() const { return complete_; }

  std::size_t step(std::string_view& in, char* out, std::size_t size) {
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out, size, 0};
    const std::size_t status = ZSTD_decompressStream(stream_.get(), &output, &input);
    if (ZSTD_isError(status) != 0) {
      throw DataError(path_, concat("zstd: ", ZSTD_getErrorName(status)));
    }
    complete_ = status == 0;
    in.remove_prefix(input.pos);
    return output.pos;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  std::string path_;
  std::unique_ptr<ZSTD_DStream, Free> stream_{ZSTD_createDStream()};
  bool complete_ = false;
};
#endif

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::string& path) {
  auto plain = std::make_unique<PlainSource>(path);
  if (plain->starts_with("\x1F\x8B")) {
#ifdef GPT2TRAIN_HAS_ZLIB
    return std::make_unique<PackedSource<Gzip>>(std::move(plain));
#else
    throw DataError(path, "is gzip, and this build lacks zlib (zlib1g-dev)");
#endif
  }
  if (plain->starts_with("\x28\xB5\x2F\xFD")) {
#ifdef GPT2TRAIN_HAS_ZSTD
    return std::make_unique<PackedSource<Zstd>>(std::move(plain));
#else
    throw DataError(path, "is zstd, and this build lacks libzstd (libzstd-dev)");
#endif
  }
  return plain;
}

}  // namespace gpt2train
