// The header goes through a SAX parser, event by event: a document tree would keep one of two
// duplicate keys in silence and grow with the nesting.
#include "gpt2train/data/safetensors.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/data/mapped_file.h"

namespace gpt2train {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // as the reference implementation
constexpr std::size_t kMaxRank = 64;
constexpr const char* kMetadataKey = "__metadata__";

struct HeaderTensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::uint64_t> offsets;
};

struct Header {
  std::map<std::string, HeaderTensor> tensors;
  std::map<std::string, std::string> metadata;
  std::uint64_t data_start = 0;  // in the file
};

// What the JSON parser reads from. It publishes its position, which is how errors get theirs.
class HeaderIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  HeaderIterator(const char* at, const char** position) : at_(at), position_(position) {}
  reference operator*() const { return *at_; }
  HeaderIterator& operator++() {
    *position_ = ++at_;
    return *this;
  }
  bool operator==(const HeaderIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  const char** position_;
};

// Accepts exactly {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}, ...}.
class HeaderParser : public nlohmann::json_sax<Json> {
 public:
  HeaderParser(const std::string& path, std::string_view text)
      : path_(path), text_(text), position_(text.data()) {}

  Header parse() {
    if (!text_.starts_with('{')) fail("the header does not start with '{'");
    // The parser would take a zero for the end and leave the rest unread.
    if (const std::size_t zero = text_.find('\0'); zero != std::string_view::npos) {
      position_ += zero;
      fail("a zero byte in the header");
    }
    const char* end = text_.data() + text_.size();
    Json::sax_parse(HeaderIterator(text_.data(), &position_), HeaderIterator(end, &position_),
                    this);
    return std::move(header_);
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kHeader;
    } else if (place_ == Place::kHeader) {
      place_ = name_ == kMetadataKey ? Place::kMetadata : Place::kTensor;
      fields_.clear();
    } else {
      fail("unexpected object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor && fields_.size() != 3) {
      fail(concat(quoted_name(), " lacks dtype, shape or data_offsets"));
    }
    place_ = place_ == Place::kHeader ? Place::kStart : Place::kHeader;
    return true;
  }

  bool key(std::string& text) override {
    if (place_ == Place::kHeader) {
      name_ = text;
      const bool fresh = name_ == kMetadataKey ? !std::exchange(has_metadata_, true)
                                               : header_.tensors.try_emplace(name_).second;
      if (!fresh) fail(concat(quoted_name(), " is there twice"));
    } else {
      field_ = text;
      if (!fields_.insert(field_).second) {
        fail(concat('"', field_, "\" is twice in ", quoted_name()));
      }
      const bool known = field_ == "dtype" || field_ == "shape" || field_ == "data_offsets";
      if (place_ == Place::kTensor && !known) {
        fail(concat(quoted_name(), " has an unknown field \"", field_, '"'));
      }
    }
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::kMetadata) {
      header_.metadata.emplace(field_, text);
    } else if (place_ == Place::kTensor && field_ == "dtype") {
      if (element_bytes(text) == 0) {
        fail(concat(quoted_name(), " has the unknown dtype \"", text, '"'));
      }
      tensor().dtype = text;
    } else {
      fail("unexpected string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") fail("unexpected array");
    place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets && tensor().offsets.size() != 2) {
      fail(concat(quoted_name(), " has data_offsets that are not two numbers"));
    }
    place_ = Place::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
        fail(concat(quoted_name(), " has a dimension of ", value));
      }
      if (tensor().shape.size() == kMaxRank) {
        fail(concat(quoted_name(), " has more than ", kMaxRank, " dimensions"));
      }
      tensor().shape.push_back(static_cast<std::int64_t>(value));
    } else if (place_ == Place::kOffsets) {
      if (tensor().offsets.size() == 2) {
        fail(concat(quoted_name(), " has data_offsets that are not two numbers"));
      }
      tensor().offsets.push_back(value);
    } else {
      fail("unexpected number");
    }
    return true;
  }

  bool number_integer(number_integer_t value) override { fail(concat("negative number ", value)); }
  bool number_float(number_float_t, const std::string& text) override {
    fail(concat("number ", text, ", expected an integer of 64 bits"));
  }
  bool null() override { fail("unexpected null"); }
  bool boolean(bool) override { fail("unexpected boolean"); }
  bool binary(binary_t&) override { fail("unexpected binary"); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& e) override {
    fail(concat("the header is not JSON: ", e.what()));
  }

 private:
  enum class Place : std::uint8_t { kStart, kHeader, kMetadata, kTensor, kShape, kOffsets };

  HeaderTensor& tensor() { return header_.tensors.find(name_)->second; }

  std::string quoted_name() const { return concat('"', name_, '"'); }

  [[noreturn]] void fail(const std::string& problem) const {
    const auto offset = static_cast<std::uint64_t>(position_ - text_.data());
    // A hostile name may be as long as the header.
    throw DataError(path_, kLengthBytes + offset, problem.substr(0, 500));
  }

  const std::string& path_;
  std::string_view text_;
  const char* position_;
  Place place_ = Place::kStart;
  std::string name_;   // key in the header
  std::string field_;  // key below it
  std::set<std::string> fields_;
  bool has_metadata_ = false;
  Header header_;
};

Header read_header(const std::string& path, std::span<const std::byte> bytes) {
  const std::size_t size = bytes.size();
  if (size < kLengthBytes) {
    throw DataError(path, size,
                    concat("the file ends inside the header length of ", kLengthBytes, " bytes"));
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > size - kLengthBytes) {
    throw DataError(path, 0, concat("a header of ", length, " bytes in a file of ", size));
  }
  if (length > kMaxHeaderBytes) {
    throw DataError(path, 0,
                    concat("a header of ", length, " bytes, expected at most ", kMaxHeaderBytes));
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  Header header = HeaderParser(path, {text, length}).parse();
  header.data_start = kLengthBytes + length;
  return header;
}

// Cuts the data after the header into the tensors, which must cover it without gap or overlap.
std::map<std::string, StoredTensor> cut(const std::string& path, std::span<const std::byte> bytes,
                                        Header& header) {
  const std::span<const std::byte> data = bytes.subspan(header.data_start);
  using Entry = std::pair<const std::string, HeaderTensor>;
  std::vector<Entry*> in_file_order;
  for (Entry& entry : header.tensors) in_file_order.push_back(&entry);
  std::sort(in_file_order.begin(), in_file_order.end(),
            [](const Entry* a, const Entry* b) { return a->second.offsets < b->second.offsets; });

  std::map<std::string, StoredTensor> tensors;
  std::uint64_t covered = 0;
  for (Entry* entry : in_file_order) {
    auto& [name, tensor] = *entry;
    const std::uint64_t begin = tensor.offsets[0], end = tensor.offsets[1];
    const auto fail = [&, &tensor_name = name](const auto&... problem) {
      throw DataError(path, header.data_start + covered,
                      concat('"', tensor_name, "\" ", problem...));
    };
    if (begin > end) fail("has offsets ", begin, " to ", end, ", which run backwards");
    if (begin < covered) fail("begins at ", begin, " and overlaps the tensor before it");
    if (begin > covered) fail("begins at ", begin, ", ", begin - covered, " bytes after the last");
    if (end > data.size()) fail("ends at ", end, ", but the data end at ", data.size());
    const std::optional<std::uint64_t> size = stored_bytes(tensor.shape, tensor.dtype);
    if (!size) fail("has a shape whose size overflows");
    if (*size != end - begin) {
      fail("has ", end - begin, " bytes, but its shape and ", tensor.dtype, " take ", *size);
    }
    covered = end;
    tensors.emplace(name, StoredTensor{.dtype = std::move(tensor.dtype),
                                       .shape = std::move(tensor.shape),
                                       .bytes = data.subspan(begin, end - begin)});
  }
  if (covered != data.size()) {
    throw DataError(path, header.data_start + covered,
                    concat(data.size() - covered, " bytes after the last tensor"));
  }
  return tensors;
}

}  // namespace

SafetensorsFile::SafetensorsFile(Contents contents)
    : StoredTensors(std::move(contents.path), std::move(contents.owners),
                    std::move(contents.tensors)),
      metadata_(std::move(contents.metadata)) {}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : SafetensorsFile(std::make_shared<const MappedFile>(path)) {}

SafetensorsFile::SafetensorsFile(const std::shared_ptr<const MappedFile>& file)
    : SafetensorsFile(parse(file->path(), file->bytes(), {file})) {}

SafetensorsFile::SafetensorsFile(const std::string& path, std::span<const std::byte> bytes)
    : SafetensorsFile(parse(path, bytes, {})) {}

SafetensorsFile::Contents SafetensorsFile::parse(const std::string& path,
                                                 std::span<const std::byte> bytes,
                                                 std::vector<std::shared_ptr<const void>> owners) {
  Header header = read_header(path, bytes);
  return {.path = path,
          .owners = std::move(owners),
          .tensors = cut(path, bytes, header),
          .metadata = std::move(header.metadata)};
}

std::string safetensors_header(std::span<const TensorToStore> tensors,
                               const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::uint64_t offset = 0;
  for (const TensorToStore& tensor : tensors) {
    GPT2_CHECK(!header.contains(tensor.name) && tensor.name != kMetadataKey, "tensor name \"",
               tensor.name, "\" is taken");
    GPT2_CHECK(element_bytes(tensor.dtype) != 0, tensor.name, ": unknown dtype ", tensor.dtype);
    GPT2_CHECK(stored_bytes(tensor.shape, tensor.dtype) == tensor.bytes.size(), tensor.name, ": ",
               tensor.bytes.size(), " bytes do not fit its shape");
    const std::uint64_t end = offset + tensor.bytes.size();
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + text;
}

}  // namespace gpt2train
