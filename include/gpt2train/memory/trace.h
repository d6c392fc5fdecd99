// Every allocation and free of a run as a CSV file: what memory.trace asks for.
#pragma once

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "gpt2train/memory/allocator.h"

namespace gpt2train {

// Writes while it lives, as the allocator's only observer. Columns: time_ns, event (alloc or free),
// position (MemoryEvent's: equal in every run of one configuration, dry or real), bytes, category,
// tensor, scope, allocated_bytes and reserved_bytes after the event.
class MemoryTrace {
 public:
  // Throws DataError when the file cannot be opened. A disk that fills up later cuts the trace
  // short and leaves the run alone.
  MemoryTrace(CachingAllocator& allocator, const std::string& path);
  ~MemoryTrace();
  MemoryTrace(const MemoryTrace&) = delete;
  MemoryTrace& operator=(const MemoryTrace&) = delete;

 private:
  void write(const MemoryEvent& event);

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  CachingAllocator& allocator_;
  std::unique_ptr<std::FILE, Close> file_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace gpt2train
