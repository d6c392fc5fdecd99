// Writes a Python pickle (protocol 4, PEP 3154) of dicts, lists, texts and whole numbers, with the
// opcodes that the reader of pytorch.org/memory_viz knows.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>

namespace gpt2train {

class PickleStream {
 public:
  explicit PickleStream(std::FILE* file) : file_(file) { put("\x80\x04", 2); }

  void null() { put('N'); }
  void boolean(bool value) { put(value ? '\x88' : '\x89'); }

  void number(std::uint64_t value) {
    if (value < 0x100) {
      put('K');
      little_endian(value, 1);
    } else if (value < 0x10000) {
      put('M');
      little_endian(value, 2);
    } else if (value < 0x80000000) {
      put('J');
      little_endian(value, 4);
    } else {
      const int bytes = static_cast<int>(std::bit_width(value)) / 8 + 1;  // with a clear sign bit
      put('\x8a');
      little_endian(static_cast<std::uint64_t>(bytes), 1);
      little_endian(value, bytes);
    }
  }

  // Each text is written once; later ones refer to it.
  void text(std::string_view value) {
    if (const auto it = texts_.find(value); it != texts_.end()) return recall(it->second);
    put('X');
    little_endian(value.size(), 4);
    put(value);
    texts_.emplace(value, remember());
  }

  // Gives what was written last a number for recall().
  std::uint32_t remember() {
    put('\x94');
    return remembered_++;
  }
  void recall(std::uint32_t number) {
    put(number < 0x100 ? 'h' : 'j');
    little_endian(number, number < 0x100 ? 1 : 4);
  }

  // Between begin and end of a dict: a text, a value, and so on.
  void begin_dict() { put("}("); }
  void end_dict() { put('u'); }
  void begin_list() { put(']'); }
  // After each value of a list. One APPENDS for all would be shorter, and a reader that passes its
  // values as arguments of a call runs out of stack.
  void append() { put('a'); }
  void pair_of_zeros() { put("K\0K\0\x86", 5); }

  void finish() {
    put('.');
    flush();
  }

 private:
  void put(char byte) { put(&byte, 1); }
  void put(std::string_view bytes) { put(bytes.data(), bytes.size()); }
  void put(const char* bytes, std::size_t count) {
    buffer_.append(bytes, count);
    if (buffer_.size() >= 1 << 16) flush();
  }
  void little_endian(std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) put(i < 8 ? static_cast<char>(value >> (8 * i)) : '\0');
  }
  void flush() {
    std::fwrite(buffer_.data(), 1, buffer_.size(), file_);
    buffer_.clear();
  }

  std::FILE* file_;
  std::string buffer_;
  std::map<std::string, std::uint32_t, std::less<>> texts_;
  std::uint32_t remembered_ = 0;
};

}  // namespace gpt2train
