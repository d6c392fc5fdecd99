// Files are checked once, when they are opened; reading a window trusts them from then on.
#include "gpt2train/data/tokens.h"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/data/mapped_file.h"

namespace gpt2train {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

constexpr std::int32_t kLlmcMagic = 20240520;
constexpr std::int32_t kLlmcVersion = 1;
constexpr std::size_t kLlmcHeaderBytes = 1024;  // 256 int32: magic, version, count, zeros

std::vector<std::string> matching_files(const std::string& file_or_glob) {
  struct stat ignored {};
  // A name that exists is meant literally, brackets and all.
  if (stat(file_or_glob.c_str(), &ignored) == 0) return {file_or_glob};

  glob_t found{};
  const int status = glob(file_or_glob.c_str(), GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> paths;
  if (status == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  if (paths.empty()) {
    throw DataError(file_or_glob, "no file matches; data/README.md tells how token files are made");
  }
  std::sort(paths.begin(), paths.end());  // glob itself sorts by locale
  return paths;
}

std::int32_t header_word(const MappedFile& file, std::size_t index) {
  std::int32_t word = 0;
  std::memcpy(&word, file.bytes().data() + index * sizeof word, sizeof word);
  return word;
}

TokenFormat sniff(const MappedFile& file) {
  if (file.bytes().size() >= sizeof kLlmcMagic && header_word(file, 0) == kLlmcMagic) {
    return TokenFormat::kLlmc;
  }
  return file.path().ends_with(".txt") ? TokenFormat::kBytes : TokenFormat::kNanoGpt;
}

void check_llmc_header(const MappedFile& file) {
  const std::size_t size = file.bytes().size();
  if (size < kLlmcHeaderBytes) {
    throw DataError(file.path(), size,
                    concat("the file ends inside the header of ", kLlmcHeaderBytes, " bytes"));
  }
  if (const std::int32_t magic = header_word(file, 0); magic != kLlmcMagic) {
    throw DataError(file.path(), 0, concat("magic number ", magic, ", expected ", kLlmcMagic));
  }
  if (const std::int32_t version = header_word(file, 1); version != kLlmcVersion) {
    throw DataError(file.path(), 4, concat("version ", version, ", expected ", kLlmcVersion));
  }
  const std::int64_t count = header_word(file, 2);
  if (static_cast<std::int64_t>(size - kLlmcHeaderBytes) != count * 2) {
    throw DataError(file.path(), 8,
                    concat("the header counts ", count, " tokens, but ", size - kLlmcHeaderBytes,
                           " bytes follow it, expected 2 a token"));
  }
}

// The tokens of a file, once its size and header are found to be right.
std::span<const std::byte> token_bytes(const MappedFile& file, TokenFormat format) {
  const std::size_t size = file.bytes().size();
  if (format == TokenFormat::kLlmc) {
    check_llmc_header(file);
    return file.bytes().subspan(kLlmcHeaderBytes);
  }
  if (format == TokenFormat::kNanoGpt && size % 2 != 0) {
    throw DataError(file.path(), size - 1,
                    concat("half a token at the end: the file has ", size,
                           " bytes, expected an even count (2 a token)"));
  }
  return file.bytes();
}

// Both token types start at a multiple of their size: a mapping starts on a page, a header is even.
template <class Token>
std::span<const Token> as_tokens(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const Token*>(bytes.data()), bytes.size() / sizeof(Token)};
}

template <class Token>
void check_vocabulary(const MappedFile& file, std::span<const std::byte> bytes,
                      std::int64_t vocab_size) {
  if (vocab_size > std::numeric_limits<Token>::max()) return;
  const auto tokens = as_tokens<Token>(bytes);
  const std::int64_t count = std::ssize(tokens);
  constexpr std::int64_t kPiece = 1 << 20;
  int largest = 0;
  // Threads take turns, so the disk sees one stream that runs forward.
#pragma omp parallel for schedule(static, 1) reduction(max : largest)
  for (std::int64_t first = 0; first < count; first += kPiece) {
    const Token* piece = tokens.data() + first;
    const std::int64_t length = std::min(kPiece, count - first);
    Token piece_largest = 0;  // of the narrow type: twice the lanes
#pragma omp simd reduction(max : piece_largest)
    for (std::int64_t i = 0; i < length; ++i) piece_largest = std::max(piece_largest, piece[i]);
    largest = std::max(largest, int{piece_largest});
  }
  if (largest < vocab_size) return;

  const auto bad =
      std::find_if(tokens.begin(), tokens.end(), [&](Token token) { return token >= vocab_size; });
  const auto* place = reinterpret_cast<const std::byte*>(&*bad);
  throw DataError(file.path(), static_cast<std::uint64_t>(place - file.bytes().data()),
                  concat("token ", int{*bad}, ", expected below the vocabulary size ", vocab_size));
}

}  // namespace

struct TokenSource::File {
  MappedFile mapping;
  TokenFormat format;
  std::span<const std::byte> bytes;  // in the mapping, without header

  std::int64_t count() const { return std::ssize(bytes) / (format == TokenFormat::kBytes ? 1 : 2); }
  std::int64_t window_count(std::int64_t length) const {
    return std::max(std::int64_t{0}, count() - length + 1);
  }
};

TokenSource::TokenSource(const std::string& file_or_glob, TokenFormat format,
                         std::int64_t vocab_size) {
  for (const std::string& path : matching_files(file_or_glob)) {
    MappedFile mapping(path);
    const TokenFormat actual = format == TokenFormat::kAuto ? sniff(mapping) : format;
    const std::span<const std::byte> bytes = token_bytes(mapping, actual);
    if (actual == TokenFormat::kBytes) {
      check_vocabulary<std::uint8_t>(mapping, bytes, vocab_size);
    } else {
      check_vocabulary<std::uint16_t>(mapping, bytes, vocab_size);
    }
    files_.push_back({std::move(mapping), actual, bytes});
  }
}

TokenSource::~TokenSource() = default;
TokenSource::TokenSource(TokenSource&&) noexcept = default;
TokenSource& TokenSource::operator=(TokenSource&&) noexcept = default;

std::int64_t TokenSource::token_count() const {
  std::int64_t count = 0;
  for (const File& file : files_) count += file.count();
  return count;
}

std::int64_t TokenSource::file_count() const {
  return std::ssize(files_);
}

TokenFormat TokenSource::format() const {
  return files_.front().format;
}

std::int64_t TokenSource::window_count(std::int64_t length) const {
  GPT2_CHECK(length > 0, "windows of ", length, " tokens");
  std::int64_t count = 0;
  for (const File& file : files_) count += file.window_count(length);
  return count;
}

void TokenSource::read_window(std::int64_t window, std::span<std::int32_t> out) const {
  const std::int64_t length = std::ssize(out);
  GPT2_CHECK(window >= 0 && window < window_count(length), "window ", window, " of ",
             window_count(length));
  auto file = files_.begin();
  while (window >= file->window_count(length)) window -= (file++)->window_count(length);
  const auto copy = [&]<class Token>(std::span<const Token> tokens) {
    std::copy_n(tokens.begin() + window, length, out.begin());
  };
  if (file->format == TokenFormat::kBytes) {
    copy(as_tokens<std::uint8_t>(file->bytes));
  } else {
    copy(as_tokens<std::uint16_t>(file->bytes));
  }
}

}  // namespace gpt2train
