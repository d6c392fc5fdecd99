#include "gpt2train/data/choices.h"

#include <cstring>
#include <span>

#include "gpt2train/core/error.h"
#include "gpt2train/data/mapped_file.h"

namespace gpt2train {
namespace {

constexpr std::int32_t kMagic = 20240522;
constexpr std::int32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 1024;
constexpr int kBegin = 65535;

// Reads numbers one by one; every complaint names the byte.
class Reader {
 public:
  explicit Reader(const MappedFile& file) : file_(file) {}

  std::size_t at() const { return at_; }
  template <class Number>
  std::int64_t next(const char* what) {
    Number number;
    if (at_ + sizeof number > file_.bytes().size()) {
      fail(concat("the file ends where ", what, " is expected"));
    }
    std::memcpy(&number, file_.bytes().data() + at_, sizeof number);
    at_ += sizeof number;
    return number;
  }
  // Complains of the number before, unless `right`.
  void check(bool right, const std::string& problem) {
    if (right) return;
    at_ -= sizeof(std::uint16_t);
    fail(problem);
  }
  [[noreturn]] void fail(const std::string& problem) const {
    throw DataError(file_.path(), at_, problem);
  }
  void skip_to(std::size_t at) { at_ = at; }

 private:
  const MappedFile& file_;
  std::size_t at_ = 0;
};

std::int64_t read_header(Reader& reader) {
  const std::int64_t magic = reader.next<std::int32_t>("a header");
  if (magic != kMagic) {
    reader.skip_to(0);
    reader.fail(concat("magic number ", magic, ", expected ", kMagic));
  }
  const std::int64_t version = reader.next<std::int32_t>("a version");
  if (version != kVersion) {
    reader.skip_to(4);
    reader.fail(concat("version ", version, ", expected ", kVersion));
  }
  const std::int64_t count = reader.next<std::int32_t>("the number of examples");
  reader.skip_to(kHeaderBytes);
  return count;
}

std::vector<std::int32_t> read_text(Reader& reader, std::int64_t vocab_size) {
  const std::int64_t length = reader.next<std::uint16_t>("the length of a text");
  reader.check(length > 0, "a text of no tokens");
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < length; ++i) {
    const std::int64_t token = reader.next<std::uint16_t>("a token");
    reader.check(token < vocab_size,
                 concat("token ", token, ", expected below the vocabulary size ", vocab_size));
    tokens.push_back(static_cast<std::int32_t>(token));
  }
  return tokens;
}

ChoiceExample read_example(Reader& reader, std::int64_t index, std::int64_t vocab_size) {
  const std::size_t begin = reader.at();
  const std::int64_t mark = reader.next<std::uint16_t>("an example");
  reader.check(mark == kBegin, concat("found ", mark, " where an example begins with ", kBegin));
  const std::int64_t bytes = reader.next<std::uint16_t>("the bytes of an example");
  const std::int64_t found = reader.next<std::uint16_t>("the index of an example");
  reader.check(found == (index & 0xFFFF), concat("example ", found, ", expected ", index));
  ChoiceExample example;
  example.label = reader.next<std::uint16_t>("a label");
  const std::int64_t endings = reader.next<std::uint16_t>("the number of endings");
  reader.check(endings >= 2 && example.label < endings,
               concat("label ", example.label, " among ", endings, " endings"));
  example.context = read_text(reader, vocab_size);
  for (std::int64_t i = 0; i < endings; ++i) {
    example.endings.push_back(read_text(reader, vocab_size));
  }
  if (static_cast<std::int64_t>(reader.at() - begin) != bytes) {
    reader.fail(
        concat("example ", index, " has ", reader.at() - begin, " bytes, but says ", bytes));
  }
  return example;
}

}  // namespace

std::vector<ChoiceExample> read_choices(const std::string& path, std::int64_t vocab_size) {
  const MappedFile file(path);
  Reader reader(file);
  const std::int64_t count = read_header(reader);
  std::vector<ChoiceExample> examples;
  for (std::int64_t i = 0; i < count; ++i) examples.push_back(read_example(reader, i, vocab_size));
  if (reader.at() != file.bytes().size()) {
    reader.fail(concat("more follows the ", count, " examples that the header counts"));
  }
  if (examples.empty()) reader.fail("no examples");
  return examples;
}

}  // namespace gpt2train
