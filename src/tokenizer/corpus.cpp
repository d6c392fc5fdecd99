#include "gpt2train/tokenizer/corpus.h"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/tokenizer/json_line.h"
#include "gpt2train/tokenizer/tokenizer.h"
#include "src/tokenizer/byte_source.h"
#include "src/tokenizer/parquet.h"

namespace gpt2train {
namespace {

constexpr std::size_t kRead = 256 * kKiB;  // also the usual size of a fragment of a long text

CorpusFormat format_of(std::string_view name) {
  if (name.ends_with(".parquet")) return CorpusFormat::kParquet;
  for (const std::string_view packed : {".gz", ".zst"}) {
    if (name.ends_with(packed)) name.remove_suffix(packed.size());
  }
  const bool jsonl = name.ends_with(".jsonl") || name.ends_with(".ndjson");
  return jsonl ? CorpusFormat::kJsonl : CorpusFormat::kText;
}

// Where the text may be cut: the last such place at or after `from`, or 0.
std::size_t last_cut(std::string_view text, std::size_t from) {
  for (std::size_t at = text.size(); at-- > std::max(from, std::size_t{1});) {
    if (text[at] == ' ' && at + 1 < text.size() && text[at + 1] > ' ' && text[at + 1] < '\x7F')
      return at;
  }
  return 0;
}

}  // namespace

struct Corpus::File {
  const std::string* path = nullptr;
  CorpusFormat format = CorpusFormat::kText;
  std::unique_ptr<ParquetTexts> rows;  // of Parquet; other formats have a source and a buffer
  std::unique_ptr<ByteSource> source;
  std::string buffer;        // what was read
  std::size_t given = 0;     // of the buffer
  std::size_t searched = 0;  // of unread(): nothing that ends a document begins before
  std::int64_t lines = 0;
  bool in_document = false;  // parts of the current one have been given away
  bool at_end = false;
  bool finished = false;  // its last document was given away

  std::uint64_t bytes_read() const {
    return rows ? rows->bytes_read() : source->packed_bytes_read();
  }

  std::string_view unread() const { return std::string_view(buffer).substr(given); }

  // Reads on; false at the end.
  bool fill() {
    if (at_end) return false;
    buffer.erase(0, std::exchange(given, 0));
    const std::size_t before = buffer.size();
    if (before > kMostTextBytes) {
      throw DataError(*path, concat("a document of more than ", human_bytes(kMostTextBytes)));
    }
    buffer.resize(before + kRead);
    buffer.resize(before + source->read(buffer.data() + before, kRead));
    at_end = buffer.size() < before + kRead;
    return buffer.size() > before;
  }

  // The first `size` unread bytes, which are then read, and `more`.
  std::string take(std::size_t size, std::size_t more = 0) {
    std::string taken(unread().substr(0, size));
    given += size + more;
    searched = 0;
    return taken;
  }
};

Corpus::Corpus(CorpusOptions options) : options_(std::move(options)) {
  for (const std::string& path : options_.files) {
    struct stat found {};
    if (path == "-" || stat(path.c_str(), &found) != 0 || !S_ISREG(found.st_mode)) {
      total_bytes_ = 0;
      return;
    }
    total_bytes_ += static_cast<std::uint64_t>(found.st_size);
  }
}

Corpus::~Corpus() = default;

bool Corpus::open_next() {
  if (file_) bytes_read_before_ += file_->bytes_read();
  file_.reset();
  if (opened_ == options_.files.size()) return false;
  const std::string& path = options_.files[opened_++];
  file_ = std::make_unique<File>();
  file_->path = &path;
  file_->format = options_.format == CorpusFormat::kAuto ? format_of(path) : options_.format;
  if (file_->format == CorpusFormat::kParquet) {
    file_->rows = open_parquet(path, options_.field);
  } else {
    file_->source = open_bytes(path);
  }
  return true;
}

bool Corpus::next(Fragment& fragment) {
  if (!file_ && !open_next()) return false;
  do {
    fragment = {.document = documents_, .path = file_->path};
    const bool found = file_->rows                             ? next_row(fragment)
                       : file_->format == CorpusFormat::kJsonl ? next_line(fragment)
                                                               : next_text(fragment);
    if (!found) continue;
    documents_ += fragment.last;
    return true;
  } while (open_next());
  return false;
}

bool Corpus::next_row(Fragment& fragment) {
  fragment.first = fragment.last = true;
  return file_->rows->next(fragment.bytes);
}

bool Corpus::next_line(Fragment& fragment) {
  File& file = *file_;
  for (;;) {
    const std::size_t end = file.unread().find('\n', file.searched);
    if (end == std::string::npos) {
      file.searched = file.unread().size();
      if (file.fill()) continue;
      if (file.unread().empty()) return false;
    }
    ++file.lines;
    std::string line =
        end == std::string::npos ? file.take(file.unread().size()) : file.take(end, 1);
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    fragment.bytes = std::move(line);
    fragment.first = fragment.last = true;
    fragment.line = file.lines;
    return true;
  }
}

bool Corpus::next_text(Fragment& fragment) {
  File& file = *file_;
  const std::string& delimiter = options_.delimiter;
  const auto give = [&](std::size_t size, std::size_t more, bool last) {
    fragment.first = !file.in_document;
    fragment.last = last;
    fragment.bytes = file.take(size, more);
    file.in_document = !last;
    return true;
  };
  while (!file.finished) {
    const std::string_view text = file.unread();
    if (!delimiter.empty()) {
      if (const std::size_t end = text.find(delimiter, file.searched);
          end != std::string_view::npos) {
        const std::size_t kept = options_.keep_delimiter ? delimiter.size() : 0;
        return give(end + kept, delimiter.size() - kept, true);
      }
    }
    // A delimiter may have begun in the last few bytes.
    const std::size_t begun = delimiter.empty() ? 0 : delimiter.size() - 1;
    const std::size_t sure = text.size() - std::min(text.size(), begun);
    const std::size_t before = std::exchange(file.searched, sure);
    if (!options_.whole_documents && text.size() > kRead) {
      const std::size_t cut = last_cut(text.substr(0, sure), before - std::min(before, kRead));
      if (cut > 0) return give(cut, 0, false);
    }
    if (file.fill()) continue;
    file.finished = true;
    // No bytes behind the last delimiter are no document; a file that is one may be empty.
    if (!text.empty() || file.in_document || delimiter.empty())
      return give(file.unread().size(), 0, true);
  }
  return false;
}

std::string Corpus::text_of(Fragment fragment) const {
  if (fragment.line == 0) return std::move(fragment.bytes);
  return text_field(fragment.bytes, options_.field, *fragment.path, fragment.line);
}

std::uint64_t Corpus::bytes_read() const {
  return bytes_read_before_ + (file_ ? file_->bytes_read() : 0);
}

std::uint64_t Corpus::total_bytes() const {
  return total_bytes_;
}

std::vector<std::string> expand_globs(const std::vector<std::string>& names) {
  std::vector<std::string> paths;
  for (const std::string& name : names) {
    struct stat ignored {};
    if (name == "-" || stat(name.c_str(), &ignored) == 0) {
      paths.push_back(name);
      continue;
    }
    glob_t found{};
    const auto before = std::ssize(paths);
    if (glob(name.c_str(), GLOB_NOSORT, nullptr, &found) == 0) {
      paths.insert(paths.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
    }
    globfree(&found);
    if (std::ssize(paths) == before) throw DataError(name, "no such file, and none that matches");
    std::sort(paths.begin() + before, paths.end());  // glob itself sorts by locale
  }
  return paths;
}

}  // namespace gpt2train
