#include "src/data/pickle_reader.h"

#include <iterator>
#include <limits>
#include <unordered_map>

#include "src/data/byte_reader.h"

namespace gpt2train {
namespace {

// A checkpoint of GPT-2 XL with its optimizer has less than 1 MiB.
constexpr std::size_t kMaxBytes = std::size_t{16} << 20;
constexpr std::size_t kMaxPickledRank = 8;
// One tuple may be the shape of many tensors; weights and moments of 1,024 layers are 37,000.
constexpr std::size_t kMaxTensors = std::size_t{1} << 17;

// All that may be named. A storage has the dtype of its elements.
struct Global {
  std::string_view module, name;
  const char* dtype = nullptr;
};
constexpr Global kGlobals[] = {
    {"collections", "OrderedDict"},         {"torch._utils", "_rebuild_tensor_v2"},
    {"torch._utils", "_rebuild_parameter"}, {"torch", "FloatStorage", "F32"},
    {"torch", "DoubleStorage", "F64"},      {"torch", "HalfStorage", "F16"},
    {"torch", "BFloat16Storage", "BF16"},   {"torch", "LongStorage", "I64"},
    {"torch", "IntStorage", "I32"},         {"torch", "ShortStorage", "I16"},
    {"torch", "CharStorage", "I8"},         {"torch", "ByteStorage", "U8"},
    {"torch", "BoolStorage", "BOOL"}};
enum : std::int64_t { kOrderedDict, kRebuildTensor, kRebuildParameter };

// Of protocols 2 and 4 (Python's pickletools has all of them).
enum Opcode : std::uint8_t {
  kProto = 0x80,
  kFrame = 0x95,
  kStop = '.',
  kMark = '(',
  kGlobal = 'c',
  kReduce = 'R',
  kBuild = 'b',
  kPersistentId = 'Q',
  kPut1 = 'q',
  kPut4 = 'r',
  kPutNext = 0x94,
  kGet1 = 'h',
  kGet4 = 'j',
  kNone = 'N',
  kTrue = 0x88,
  kFalse = 0x89,
  kInt1 = 'K',
  kInt2 = 'M',
  kInt4 = 'J',
  kLong1 = 0x8A,
  kFloat8 = 'G',
  kText1 = 0x8C,
  kText4 = 'X',
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u'
};

}  // namespace

// The stack machine. Every opcode makes one value at most, so a pickle of n bytes costs O(n).
class Unpickler {
 public:
  using Ref = Pickle::Ref;
  using Kind = Pickle::Kind;

  Unpickler(Pickle& pickle, ByteReader reader) : pickle_(pickle), reader_(reader) {}

  void run() {
    if (reader_.left() > kMaxBytes) reader_.fail("a pickle of ", reader_.left(), " bytes");
    const auto first = reader_.number<std::uint8_t>("a pickle");
    const auto protocol = reader_.number<std::uint8_t>("a pickle");
    if (first != kProto || protocol < 2 || protocol > 5) {
      reader_.fail("not a pickle of protocols 2 to 5");
    }
    for (;;) {
      const auto opcode = reader_.number<std::uint8_t>("an opcode");
      if (opcode == kStop) break;
      execute(opcode);
    }
    if (stack_.size() != 1 || !marks_.empty()) reader_.fail("the pickle ends in the middle");
    if (reader_.left() != 0) reader_.fail(reader_.left(), " bytes after the pickle's end");
    pickle_.root_ = stack_.back();
  }

 private:
  void execute(std::uint8_t opcode) {
    switch (opcode) {
      case kFrame:  // says how much a reader may read ahead
        reader_.take(8, "a frame");
        return;
      case kMark:
        return marks_.push_back(stack_.size());
      case kNone:
        return push(Kind::kNone, 0);
      case kTrue:
      case kFalse:
        return push(Kind::kBool, opcode == kTrue);
      case kInt1:
        return push(Kind::kInteger, reader_.number<std::uint8_t>("a number"));
      case kInt2:
        return push(Kind::kInteger, reader_.number<std::uint16_t>("a number"));
      case kInt4:
        return push(Kind::kInteger, reader_.number<std::int32_t>("a number"));
      case kLong1:
        return push_long();
      case kFloat8:  // no one asks for its value
        reader_.take(8, "a number");
        return push(Kind::kFloat, 0);
      case kText1:
        return push_text(reader_.number<std::uint8_t>("a text"));
      case kText4:
        return push_text(reader_.number<std::uint32_t>("a text"));
      case kEmptyTuple:
        return push_sequence(Kind::kTuple, {});
      case kTuple:
        return push_sequence(Kind::kTuple, pop_to_mark());
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return push_sequence(Kind::kTuple, pop_many(opcode - kTuple1 + 1u));
      case kEmptyList:
        return push_sequence(Kind::kList, {});
      case kEmptyDict:
        return push_dict();
      case kAppend:
        return append(pop_many(1));
      case kAppends:
        return append(pop_to_mark());
      case kSetItem:
        return set_items(pop_many(2));
      case kSetItems:
        return set_items(pop_to_mark());
      case kPut1:
        return put(reader_.number<std::uint8_t>("a number"));
      case kPut4:
        return put(reader_.number<std::uint32_t>("a number"));
      case kPutNext:
        return put(static_cast<std::uint32_t>(memo_.size()));
      case kGet1:
        return get(reader_.number<std::uint8_t>("a number"));
      case kGet4:
        return get(reader_.number<std::uint32_t>("a number"));
      case kGlobal:
        return push_global();
      case kPersistentId:
        return push_storage();
      case kReduce:
        return reduce();
      case kBuild:
        return build();
      default:
        reader_.fail("opcode ", int{opcode}, " is none that a checkpoint needs");
    }
  }

  // ---- the stack ----------------------------------------------------------------------------

  void push(Kind kind, std::int64_t number) {
    stack_.push_back(static_cast<Ref>(pickle_.values_.size()));
    pickle_.values_.push_back({kind, number});
  }

  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  std::vector<Ref> pop_many(std::size_t count) {
    if (stack_.size() - floor() < count) reader_.fail("the stack has too few values");
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<Ref> values(first, stack_.end());
    stack_.erase(first, stack_.end());
    return values;
  }

  Ref pop() { return pop_many(1)[0]; }

  std::vector<Ref> pop_to_mark() {
    if (marks_.empty()) reader_.fail("no mark on the stack");
    std::vector<Ref> values = pop_many(stack_.size() - marks_.back());
    marks_.pop_back();
    return values;
  }

  // What an opcode works on and leaves where it is.
  const Pickle::Value& top(Kind kind, const char* what) {
    if (stack_.size() == floor() || pickle_.at(stack_.back()).kind != kind) {
      reader_.fail("not ", what, " on the stack");
    }
    return pickle_.at(stack_.back());
  }

  void put(std::uint32_t key) {
    if (stack_.size() == floor()) reader_.fail("nothing to remember on the stack");
    memo_[key] = stack_.back();
  }

  void get(std::uint32_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) reader_.fail("nothing was remembered as ", key);
    stack_.push_back(found->second);
  }

  // ---- values -------------------------------------------------------------------------------

  void push_long() {
    const auto count = reader_.number<std::uint8_t>("a number");
    std::int64_t value = 0;
    if (count > sizeof value) reader_.fail("a number of ", int{count}, " bytes");
    const std::span<const std::byte> bytes = reader_.take(count, "a number");
    // The highest byte has the sign.
    if (count > 0 && std::to_integer<int>(bytes.back()) >= 0x80) value = -1;
    std::memcpy(&value, bytes.data(), count);
    push(Kind::kInteger, value);
  }

  void push_text(std::uint64_t count) {
    const std::string_view text = reader_.text(count, "a text");
    push(Kind::kText, std::ssize(pickle_.texts_));
    pickle_.texts_.push_back(text);
  }

  void push_sequence(Kind kind, std::vector<Ref> items) {
    push(kind, std::ssize(pickle_.sequences_));
    pickle_.sequences_.push_back(std::move(items));
  }

  void push_dict() {
    push(Kind::kDict, std::ssize(pickle_.dicts_));
    pickle_.dicts_.emplace_back();
  }

  void append(const std::vector<Ref>& items) {
    const std::int64_t list = top(Kind::kList, "a list").number;
    auto& sequence = pickle_.sequences_[static_cast<std::size_t>(list)];
    sequence.insert(sequence.end(), items.begin(), items.end());
  }

  void set_items(const std::vector<Ref>& items) {
    const std::int64_t dict = top(Kind::kDict, "a dict").number;
    if (items.size() % 2 != 0) reader_.fail("a key without a value");
    for (std::size_t i = 0; i < items.size(); i += 2) {
      pickle_.dicts_[static_cast<std::size_t>(dict)].emplace_back(items[i], items[i + 1]);
    }
  }

  // ---- names and calls ----------------------------------------------------------------------

  std::string_view line() {
    const std::uint64_t begin = reader_.offset();
    ByteReader ahead = reader_;
    while (ahead.number<char>("a name") != '\n') {
    }
    const std::string_view text = reader_.text(ahead.offset() - begin, "a name");
    return text.substr(0, text.size() - 1);
  }

  void push_global() {
    const std::string_view module = line();
    const std::string_view name = line();
    for (const Global& global : kGlobals) {
      if (global.module == module && global.name == name) {
        return push(Kind::kGlobal, &global - kGlobals);
      }
    }
    reader_.fail("the pickle asks for ", module, '.', name, ", which is not part of a checkpoint");
  }

  // ('storage', type, key, device, count)
  void push_storage() {
    const std::vector<Ref>& parts = sequence(pop(), Kind::kTuple);
    if (parts.size() != 5 || pickle_.text(parts[0]) != "storage") {
      reader_.fail("a reference that is not to a storage");
    }
    const Pickle::Value& type = pickle_.at(parts[1]);
    const std::optional<std::string_view> key = pickle_.text(parts[2]);
    const std::optional<std::int64_t> count = pickle_.integer(parts[4]);
    const char* dtype = type.kind == Kind::kGlobal ? kGlobals[type.number].dtype : nullptr;
    if (dtype == nullptr || !key || !count || *count < 0) reader_.fail("a storage that is none");
    add_tensor(Kind::kStorage, {.storage = *key,
                                .dtype = dtype,
                                .storage_count = *count,
                                .offset = 0,
                                .shape = {},
                                .strides = {}});
  }

  void reduce() {
    const std::vector<Ref>& arguments = sequence(pop(), Kind::kTuple);
    const Pickle::Value function = pickle_.at(pop());
    if (function.kind != Kind::kGlobal) reader_.fail("a call of what is no function");
    if (function.number == kOrderedDict && arguments.empty()) return push_dict();
    if (function.number == kRebuildTensor && arguments.size() >= 4) return push_tensor(arguments);
    if (function.number == kRebuildParameter && !arguments.empty() &&
        pickle_.tensor(arguments[0]) != nullptr) {
      return stack_.push_back(arguments[0]);
    }
    reader_.fail("a call that no checkpoint makes");
  }

  // (storage, offset, shape, strides, requires_grad, hooks)
  void push_tensor(const std::vector<Ref>& arguments) {
    const Pickle::Value storage = pickle_.at(arguments[0]);
    const std::optional<std::int64_t> offset = pickle_.integer(arguments[1]);
    if (storage.kind != Kind::kStorage || !offset || *offset < 0) {
      reader_.fail("a tensor without a storage");
    }
    PickledTensor tensor = pickle_.tensors_[static_cast<std::size_t>(storage.number)];
    tensor.offset = *offset;
    tensor.shape = sizes(arguments[2]);
    tensor.strides = sizes(arguments[3]);
    if (tensor.shape.size() != tensor.strides.size()) reader_.fail("a stride for each dimension");
    add_tensor(Kind::kTensor, std::move(tensor));
  }

  void add_tensor(Kind kind, PickledTensor tensor) {
    if (pickle_.tensors_.size() == kMaxTensors) reader_.fail("more than ", kMaxTensors, " tensors");
    push(kind, std::ssize(pickle_.tensors_));
    pickle_.tensors_.push_back(std::move(tensor));
  }

  std::vector<std::int64_t> sizes(Ref tuple) {
    std::vector<std::int64_t> result;
    const std::vector<Ref>& items = sequence(tuple, Kind::kTuple);
    if (items.size() > kMaxPickledRank) reader_.fail("a tensor of ", items.size(), " dimensions");
    for (const Ref item : items) {
      const std::optional<std::int64_t> size = pickle_.integer(item);
      if (!size || *size < 0) reader_.fail("a dimension that is no size");
      result.push_back(*size);
    }
    return result;
  }

  // An OrderedDict's attributes, of which state_dict() has some: not needed.
  void build() {
    pop();
    top(Kind::kDict, "a dict");
  }

  const std::vector<Ref>& sequence(Ref value, Kind kind) {
    if (pickle_.at(value).kind != kind) reader_.fail("not a tuple where one belongs");
    return pickle_.sequences_[static_cast<std::size_t>(pickle_.at(value).number)];
  }

  Pickle& pickle_;
  ByteReader reader_;
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::unordered_map<std::uint32_t, Ref> memo_;
};

Pickle::Pickle(const std::string& path, std::span<const std::byte> bytes, std::uint64_t base) {
  Unpickler(*this, ByteReader(path, bytes, 0, base)).run();
}

const Pickle::Items* Pickle::dict(Ref value) const {
  const Value& found = at(value);
  return found.kind == Kind::kDict ? &dicts_[static_cast<std::size_t>(found.number)] : nullptr;
}

const PickledTensor* Pickle::tensor(Ref value) const {
  const Value& found = at(value);
  return found.kind == Kind::kTensor ? &tensors_[static_cast<std::size_t>(found.number)] : nullptr;
}

std::optional<std::string_view> Pickle::text(Ref value) const {
  const Value& found = at(value);
  if (found.kind != Kind::kText) return std::nullopt;
  return texts_[static_cast<std::size_t>(found.number)];
}

std::optional<std::int64_t> Pickle::integer(Ref value) const {
  const Value& found = at(value);
  if (found.kind != Kind::kInteger) return std::nullopt;
  return found.number;
}

std::optional<Pickle::Ref> Pickle::find(Ref value, std::string_view key) const {
  std::optional<Ref> result;
  if (const Items* items = dict(value)) {
    for (const auto& [name, item] : *items) {
      if (text(name) == key) result = item;  // as in Python, the last one counts
    }
  }
  return result;
}

}  // namespace gpt2train
