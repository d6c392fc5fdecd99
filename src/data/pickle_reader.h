// Reads the pickles that torch.save writes (protocol 2), and those of later protocols that hold
// dicts, lists, texts and numbers alone, such as nanoGPT's meta.pkl. A pickle is a program that may
// call any function of Python; this reader knows the opcodes and the handful of names that tensors
// need, calls nothing, and refuses all else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gpt2train {

// A tensor as a pickle has it: where its elements are, and which.
struct PickledTensor {
  std::string_view storage;  // the name of the archive's entry
  const char* dtype = "";    // as safetensors name it
  std::int64_t storage_count = 0;
  std::int64_t offset = 0;  // in elements
  std::vector<std::int64_t> shape, strides;
};

// Values refer to each other by number, so that one which contains itself is no danger.
class Pickle {
 public:
  using Ref = std::uint32_t;
  using Items = std::vector<std::pair<Ref, Ref>>;

  // `bytes`, which begin at `base` of the file, outlive this. Throws DataError with the offset.
  Pickle(const std::string& path, std::span<const std::byte> bytes, std::uint64_t base);

  Ref root() const { return root_; }
  // Each is empty where the value is something else.
  const Items* dict(Ref value) const;
  const PickledTensor* tensor(Ref value) const;
  std::optional<std::string_view> text(Ref value) const;
  std::optional<std::int64_t> integer(Ref value) const;
  // The value of a text key of a dict.
  std::optional<Ref> find(Ref dict, std::string_view key) const;

 private:
  friend class Unpickler;
  enum class Kind : std::uint8_t {
    kNone,
    kBool,
    kInteger,
    kFloat,
    kText,
    kTuple,
    kList,
    kDict,
    kGlobal,
    kStorage,
    kTensor
  };
  struct Value {
    Kind kind = Kind::kNone;
    std::int64_t number = 0;  // itself, or where the value is in the table of its kind
  };

  const Value& at(Ref value) const { return values_[value]; }

  std::vector<Value> values_;
  std::vector<std::string_view> texts_;
  std::vector<std::vector<Ref>> sequences_;  // of tuples and lists
  std::vector<Items> dicts_;
  std::vector<PickledTensor> tensors_;  // storages are tensors without a shape
  Ref root_ = 0;
};

}  // namespace gpt2train
