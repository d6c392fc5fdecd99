#include "src/data/torch_file.h"

#include <set>
#include <utility>

#include "gpt2train/core/error.h"
#include "src/data/pickle_reader.h"
#include "src/data/zip.h"

namespace gpt2train {
namespace {

class TorchParser {
 public:
  TorchParser(const std::string& path, std::span<const std::byte> bytes)
      : path_(path), entries_(read_zip(path, bytes)), prefix_(find_prefix()), pickle_(unpickle()) {}

  std::map<std::string, StoredTensor> tensors() {
    const std::optional<Pickle::Ref> model = pickle_.find(pickle_.root(), "model");
    const Pickle::Items* items = pickle_.dict(model.value_or(pickle_.root()));
    if (items == nullptr) fail("has no dict of tensors");
    std::map<std::string, StoredTensor> tensors;
    for (const auto& [key, value] : *items) {
      const PickledTensor* tensor = pickle_.tensor(value);
      const std::optional<std::string_view> name = pickle_.text(key);
      if (tensor == nullptr || !name) continue;  // what else a checkpoint keeps there
      if (!tensors.emplace(*name, stored(std::string(*name), *tensor)).second) {
        fail(concat('"', *name, "\" is there twice"));
      }
    }
    return tensors;
  }

  // nanoGPT's settings; nothing for a state_dict by itself.
  bool is_checkpoint() const { return pickle_.find(pickle_.root(), "model").has_value(); }
  std::optional<std::int64_t> model_argument(std::string_view name) const {
    const auto arguments = pickle_.find(pickle_.root(), "model_args");
    const auto value = arguments ? pickle_.find(*arguments, name) : std::nullopt;
    return value ? pickle_.integer(*value) : std::nullopt;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw DataError(path_, problem.substr(0, 500));
  }

  std::string find_prefix() const {
    for (const auto& entry : entries_) {
      const std::string& name = entry.first;
      if (name.ends_with("/data.pkl") && name.find('/') == name.size() - 9) {
        return name.substr(0, name.size() - 8);
      }
    }
    fail("a ZIP archive without data.pkl, so not written by torch.save");
  }

  const ZipEntry& entry(const std::string& name) const {
    const auto found = entries_.find(prefix_ + name);
    if (found == entries_.end()) fail(concat("has no entry \"", name, '"'));
    return found->second;
  }

  Pickle unpickle() const {
    if (const auto order = entries_.find(prefix_ + "byteorder"); order != entries_.end()) {
      const std::span<const std::byte> text = order->second.bytes;
      if (std::string_view(reinterpret_cast<const char*>(text.data()), text.size()) != "little") {
        fail("was written on a machine whose numbers are not little-endian");
      }
    }
    const ZipEntry& pickle = entry("data.pkl");
    check_sum(path_, "data.pkl", pickle);
    return {path_, pickle.bytes, pickle.offset};
  }

  // Its bytes in the archive. Only a tensor whose elements lie one after the other is read.
  StoredTensor stored(const std::string& name, const PickledTensor& tensor) {
    const std::string storage_name = concat("data/", tensor.storage);
    const ZipEntry& storage = entry(storage_name);
    if (checked_.insert(storage_name).second) check_sum(path_, storage_name, storage);
    const std::uint64_t element = element_bytes(tensor.dtype);
    const std::optional<std::uint64_t> whole = stored_bytes({tensor.storage_count}, tensor.dtype);
    const std::optional<std::uint64_t> size = stored_bytes(tensor.shape, tensor.dtype);
    if (!size || !whole || *whole != storage.bytes.size()) {
      fail(concat('"', name, "\": the storage has ", storage.bytes.size(), " bytes, not ",
                  tensor.storage_count, " of ", tensor.dtype));
    }
    const std::uint64_t offset = static_cast<std::uint64_t>(tensor.offset);
    if (offset > *whole / element || *size > *whole - offset * element) {
      fail(concat('"', name, "\" of shape ", shape_text(tensor.shape), " at ", offset,
                  " reaches beyond its storage of ", tensor.storage_count));
    }
    if (*size != 0 && !is_contiguous(tensor)) {
      fail(concat('"', name, "\" is not stored row by row; call .contiguous() before saving it"));
    }
    return {.dtype = tensor.dtype,
            .shape = tensor.shape,
            .bytes = storage.bytes.subspan(offset * element, *size)};
  }

  // The product does not overflow: the tensor lies within its storage.
  static bool is_contiguous(const PickledTensor& tensor) {
    std::int64_t expected = 1;
    for (std::size_t i = tensor.shape.size(); i-- > 0;) {
      if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
      expected *= tensor.shape[i];
    }
    return true;
  }

  const std::string& path_;
  std::map<std::string, ZipEntry> entries_;
  std::string prefix_;  // with the slash
  Pickle pickle_;
  std::set<std::string> checked_;
};

}  // namespace

WeightsFile parse_torch_file(const std::string& path, std::span<const std::byte> bytes,
                             std::vector<std::shared_ptr<const void>> owners) {
  TorchParser parser(path, bytes);
  return {.tensors = {path, std::move(owners), parser.tensors()},
          .n_head = parser.model_argument("n_head"),
          .activation = parser.is_checkpoint() ? "gelu" : ""};
}

}  // namespace gpt2train
