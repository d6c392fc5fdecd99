// The documents of text, JSON-lines and Parquet files, one after the other, in pieces that fit into
// memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gpt2train {

enum class CorpusFormat : std::uint8_t {
  kAuto,     // by name: .parquet; .jsonl or .ndjson, with .gz or .zst behind it or not; else text
  kText,     // a file is a document, or several with a delimiter between them
  kJsonl,    // an object a line, one field of which is a document; empty lines are none
  kParquet,  // a row is a document, one column of which is its text; needs Apache Arrow
};

struct CorpusOptions {
  std::vector<std::string>
      files;  // in this order; "-" is standard input. gzip and zstd are unpacked
  CorpusFormat format = CorpusFormat::kAuto;
  std::string field = "text";  // of JSON lines; the column of Parquet
  std::string delimiter =
      {};  // between documents of text; none: a file is one. None follows the last
  bool keep_delimiter = false;   // as the end of its document
  bool whole_documents = false;  // one fragment each, whatever it takes
};

// A document or a part of one. What is cut is cut where no tokenizer sees it: before a space that a
// visible character of ASCII follows, where a piece of GPT-2's begins whatever is before.
struct Fragment {
  std::string bytes = {};      // of the text, or a line of JSON for text_of()
  std::uint64_t document = 0;  // 0, 1, ...
  bool first = false;          // of its document
  bool last = false;
  const std::string* path = nullptr;
  std::int64_t line = 0;  // of JSON lines
};

class Corpus {
 public:
  explicit Corpus(CorpusOptions options);
  ~Corpus();

  // The next fragment, or false at the end. Throws DataError, also for a document of more than 1
  // GiB that cannot be cut.
  bool next(Fragment& fragment);
  // What a fragment says: its field, where it is a line of JSON. Any thread may ask.
  std::string text_of(Fragment fragment) const;

  // As files have them, packed or not; 0 where the size is not known beforehand.
  std::uint64_t bytes_read() const;
  std::uint64_t total_bytes() const;
  const CorpusOptions& options() const { return options_; }

 private:
  struct File;
  bool open_next();
  bool next_row(Fragment& fragment);
  bool next_line(Fragment& fragment);
  bool next_text(Fragment& fragment);

  CorpusOptions options_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t bytes_read_before_ = 0;
  std::size_t opened_ = 0;  // files, the current one included
  std::uint64_t documents_ = 0;
  std::unique_ptr<File> file_;
};

// Names that exist are meant literally; others are globs, whose files come in lexical order. Throws
// DataError where nothing matches.
std::vector<std::string> expand_globs(const std::vector<std::string>& names);

}  // namespace gpt2train
