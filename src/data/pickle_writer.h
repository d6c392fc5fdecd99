// Writes the pickle of torch.save: protocol 2, with tensors that refer to entries of the archive.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gpt2train {

class PickleWriter {
 public:
  PickleWriter() { put("\x80\x02"); }

  void boolean(bool value) { put(value ? "\x88" : "\x89"); }
  void none() { put("N"); }
  void integer(std::int64_t value) {
    put("\x8a\x08");
    number(value);
  }
  void real(double value) {
    put("G");
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (int shift = 56; shift >= 0; shift -= 8) bytes_ += static_cast<char>(bits >> shift);
  }
  void text(std::string_view value) {
    put("X");
    number(static_cast<std::uint32_t>(value.size()));
    put(value);
  }

  // Between begin and end of a dict: a key, a value, and so on.
  void begin_dict() { put("}("); }
  void begin_ordered_dict() { put("ccollections\nOrderedDict\n)R("); }
  void end_dict() { put("u"); }
  void begin_list() { put("]("); }
  void end_list() { put("e"); }
  void begin_tuple() { put("("); }
  void end_tuple() { put("t"); }

  // All of the entry data/`storage`, row by row. `storage_type` is torch's: "FloatStorage".
  void tensor(std::string_view storage_type, std::int64_t storage,
              const std::vector<std::int64_t>& shape) {
    std::int64_t count = 1;
    std::vector<std::int64_t> strides(shape.size());
    for (std::size_t i = shape.size(); i-- > 0;) {
      strides[i] = count;
      count *= shape[i];
    }
    put("ctorch._utils\n_rebuild_tensor_v2\n((");
    text("storage");
    put("ctorch\n");
    put(storage_type);
    put("\n");
    text(std::to_string(storage));
    text("cpu");
    integer(count);
    put("tQ");
    integer(0);
    sizes(shape);
    sizes(strides);
    boolean(false);
    put("ccollections\nOrderedDict\n)RtR");
  }

  // The whole, which nothing may follow.
  const std::string& finish() {
    put(".");
    return bytes_;
  }

 private:
  void put(std::string_view bytes) { bytes_ += bytes; }

  template <class T>
  void number(T value) {
    put({reinterpret_cast<const char*>(&value), sizeof value});
  }

  void sizes(const std::vector<std::int64_t>& values) {
    begin_tuple();
    for (const std::int64_t value : values) integer(value);
    end_tuple();
  }

  std::string bytes_;
};

}  // namespace gpt2train
