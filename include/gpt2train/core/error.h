// Every exception the program throws on purpose. `main` maps each type to one exit code; nothing
// below `main` catches Error, except Trainer and `bench`, which catch OutOfMemoryError.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace gpt2train {

// Joins the arguments with operator<<; the helper for error messages.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A caller broke a documented precondition: a bug in gpt2train, never user input. Exit code 1.
class InternalError : public Error {
 public:
  using Error::Error;
};

// A config file or flag is wrong. `where` is "file:line:column" or the flag. Exit code 2.
class ConfigError : public Error {
 public:
  ConfigError(const std::string& where, const std::string& problem)
      : Error(concat(where, ": ", problem)) {}
};

// A token file or a weights file is missing, truncated or lies about itself. Exit code 3.
class DataError : public Error {
 public:
  DataError(const std::string& path, const std::string& problem)
      : Error(concat(path, ": ", problem)) {}
  DataError(const std::string& path, std::uint64_t byte_offset, const std::string& problem)
      : Error(concat(path, ": byte ", byte_offset, ": ", problem)) {}
};

// A checkpoint is torn, corrupted, of another model, or cannot be written. Exit code 3.
class CheckpointError : public Error {
 public:
  CheckpointError(const std::string& path, const std::string& problem)
      : Error(concat(path, ": ", problem)) {}
};

// The device asked for is not there, or failed. Exit code 5.
class DeviceError : public Error {
 public:
  using Error::Error;
};

// The budget or the device cannot satisfy a request. Carries numbers, not prose, because the
// planner reads them. Exit code 4.
class OutOfMemoryError : public Error {
 public:
  struct Facts {
    std::size_t requested_bytes = 0;  // after rounding
    std::size_t in_use_bytes = 0;     // live blocks
    std::size_t cached_bytes = 0;     // reserved from the device, not in use
    std::size_t largest_free_block_bytes = 0;
    std::size_t budget_bytes = 0;
    std::string tensor = {};  // "qkv"
    std::string shape = {};   // "(65536, 50304)", or empty for plain scratch
    std::string dtype = {};   // "bf16", or empty
    std::string scope = {};   // "step 12/micro 3/block 7"
  };

  // `advice`, when given, follows the facts in what(): what to change.
  explicit OutOfMemoryError(Facts facts, const std::string& advice = {});
  const Facts& facts() const noexcept { return facts_; }

 private:
  Facts facts_;
};

[[noreturn]] void fail_check(const char* condition, const char* file, int line,
                             const std::string& message);

}  // namespace gpt2train

// Precondition on arguments; always on, in release builds too.
#define GPT2_CHECK(condition, ...)                                                        \
  (static_cast<bool>(condition) ? static_cast<void>(0)                                    \
                                : ::gpt2train::fail_check(#condition, __FILE__, __LINE__, \
                                                          ::gpt2train::concat(__VA_ARGS__)))
