#include "src/tokenizer/token_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <iomanip>
#include <limits>
#include <utility>

#include "gpt2train/core/error.h"

namespace gpt2train {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

constexpr std::uint64_t kHeaderBytes = 1024;

std::string_view bytes_in(const auto& range) {
  return {reinterpret_cast<const char*>(range.data()), range.size() * sizeof(range[0])};
}

std::string beside(const std::string& path) {
  return path + ".tmp";
}

}  // namespace

std::string TokenFiles::path(std::uint64_t shard) const {
  if (!llmc) return concat(directory, '/', split, ".bin");
  return concat(directory, '/', split, '_', std::setfill('0'), std::setw(6), shard, ".bin");
}

std::uint64_t TokenFiles::shards(std::uint64_t tokens) const {
  if (!llmc) return tokens > 0 ? 1 : 0;
  return (tokens + shard_tokens - 1) / shard_tokens;
}

TokenWriter::TokenWriter(TokenFiles files, std::uint64_t tokens)
    : files_(std::move(files)), tokens_(tokens) {
  if (!files_.llmc) files_.shard_tokens = std::numeric_limits<std::uint64_t>::max();
  if (tokens_ % files_.shard_tokens != 0) open_shard();
}

// Opens the file of the next token, cut behind what counts of it.
void TokenWriter::open_shard() {
  path_ = beside(files_.path(tokens_ / files_.shard_tokens));
  file_ = open_file(path_, O_WRONLY | O_CREAT, "create");
  const std::uint64_t header = files_.llmc ? kHeaderBytes : 0;
  const std::uint64_t size = header + tokens_ % files_.shard_tokens * sizeof(Token);
  if (ftruncate(file_.value(), static_cast<off_t>(size)) != 0) fail_file(path_, "resize");
  if (lseek(file_.value(), 0, SEEK_END) < 0) fail_file(path_, "seek");
}

// The header is known, and the file complete as it stands.
void TokenWriter::sync() {
  if (file_.value() < 0) return;
  if (files_.llmc) {
    std::array<std::int32_t, kHeaderBytes / 4> header{20240520, 1};
    const std::uint64_t in_shard = tokens_ % files_.shard_tokens;
    header[2] = static_cast<std::int32_t>(in_shard == 0 ? files_.shard_tokens : in_shard);
    write_at(file_.value(), path_, bytes_in(header), 0);
    if (lseek(file_.value(), 0, SEEK_END) < 0) fail_file(path_, "seek");
  }
  gpt2train::sync(file_.value(), path_);
}

void TokenWriter::write(std::span<const Token> tokens) {
  while (!tokens.empty()) {
    if (file_.value() < 0) open_shard();
    const std::uint64_t room = files_.shard_tokens - tokens_ % files_.shard_tokens;
    const auto piece =
        tokens.first(static_cast<std::size_t>(std::min<std::uint64_t>(room, tokens.size())));
    write_all(file_.value(), path_, bytes_in(piece));
    tokens_ += piece.size();
    tokens = tokens.subspan(piece.size());
    if (piece.size() == room) {
      sync();
      file_ = FileDescriptor();
    }
  }
}

void publish(const TokenFiles& files, std::uint64_t tokens) {
  for (std::uint64_t shard = 0; shard < files.shards(tokens); ++shard) {
    const std::string path = files.path(shard);
    if (exists(beside(path))) rename_durably(beside(path), path);
  }
}

}  // namespace gpt2train
