// Files as the tokenizer needs them: small ones whole, large ones written beside and renamed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "src/core/file_descriptor.h"

namespace gpt2train {

// DataError of `path` with what errno says: "cannot write: No space left on device".
[[noreturn]] void fail_file(const std::string& path, const char* verb);

// As open(2); throws DataError with `path` and what `verb` ("open", "create") failed of.
FileDescriptor open_file(const std::string& path, int flags, const char* verb);

bool exists(const std::string& path);
void make_directories(const std::string& path);

// Reads up to `size` bytes; fewer only at the end. Descriptor of `path`, which errors name.
std::size_t read_some(int fd, const std::string& path, char* data, std::size_t size);
void write_all(int fd, const std::string& path, std::string_view bytes);
void write_at(int fd, const std::string& path, std::string_view bytes, std::uint64_t offset);
void sync(int fd, const std::string& path);

// Throws DataError where there are more than 256 MiB.
std::string read_small_file(const std::string& path);

// Replaces `path` by a file with this text, or leaves it as it is.
void write_small_file(const std::string& path, std::string_view text);

// Renames, and syncs the directory, so that a crash does not undo it.
void rename_durably(const std::string& from, const std::string& to);

}  // namespace gpt2train
