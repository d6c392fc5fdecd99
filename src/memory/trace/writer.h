// What the four formats of a trace have in common.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "gpt2train/memory/allocator.h"
#include "gpt2train/memory/trace.h"

namespace gpt2train {

// Writes fail silently: a full disk is no reason to lose a run.
class TraceWriter {
 public:
  virtual ~TraceWriter() = default;
  virtual void write(const MemoryEvent& event, std::int64_t time_ns) = 0;
  virtual void finish() = 0;  // the end of the file
};

std::unique_ptr<TraceWriter> csv_writer(std::FILE* file);
std::unique_ptr<TraceWriter> json_writer(std::FILE* file, const CachingAllocator& allocator);
std::unique_ptr<TraceWriter> pickle_writer(std::FILE* file, const CachingAllocator& allocator,
                                           std::size_t most_recorded);
std::unique_ptr<TraceWriter> html_writer(std::FILE* file, const CachingAllocator& allocator,
                                         TraceTable table, std::size_t most_recorded);

inline constexpr std::string_view kNoScope = "(no scope)";  // CachingAllocator::scope_path

// Calls visit(part) for "step 12", "micro 3", "block 7" of "step 12/micro 3/block 7".
template <class Visit>
void for_each_part(std::string_view scope, const Visit& visit) {
  if (scope == kNoScope) return;
  for (;;) {
    const std::size_t slash = scope.find('/');
    visit(scope.substr(0, slash));
    if (slash == std::string_view::npos) return;
    scope.remove_prefix(slash + 1);
  }
}

}  // namespace gpt2train
