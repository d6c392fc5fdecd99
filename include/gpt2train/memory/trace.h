// Every allocation and free of a run in a file: what memory.trace asks for. The suffix of its name
// chooses the format.
//   .csv     one row an event
//   .json    Trace Event Format, for ui.perfetto.dev and chrome://tracing
//   .pickle  what torch.cuda.memory._snapshot() returns, for pytorch.org/memory_viz
//   .html    one page that draws itself, offline
// The first two are written as the run goes on; the others at its end, from the newest events
// (MemoryTrace::kMostRecorded) and the state before them.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/memory/allocator.h"

namespace gpt2train {

enum class TraceFormat : std::uint8_t { kCsv, kJson, kPickle, kHtml };

// Throws ConfigError for any other suffix.
TraceFormat trace_format_of(const std::string& path);

class TraceWriter;

// What a page shows beside memory: cells of text under a heading. No columns: none.
struct TraceTable {
  std::string title = {};
  std::vector<std::string> columns = {};
  std::vector<std::vector<std::string>> rows = {};  // as wide as columns
  std::optional<std::size_t> marked = {};           // the row that is in force
};

// Writes while it lives, as the only observer of an allocator that nothing was taken from yet. An
// out-of-memory error that ends the run ends the trace too: what unwinding frees after it is left
// out of .pickle and .html, so that they show what was alive.
class MemoryTrace {
 public:
  static constexpr std::size_t kMostRecorded = 100'000;  // some 10 MB

  // Throws ConfigError for its suffix and DataError when the file cannot be opened. A disk that
  // fills up later cuts the trace short and leaves the run alone. `table` is for .html.
  MemoryTrace(CachingAllocator& allocator, const std::string& path, TraceTable table = {},
              std::size_t most_recorded = kMostRecorded);
  ~MemoryTrace();
  MemoryTrace(const MemoryTrace&) = delete;
  MemoryTrace& operator=(const MemoryTrace&) = delete;

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  CachingAllocator& allocator_;
  std::unique_ptr<std::FILE, Close> file_;
  std::unique_ptr<TraceWriter> writer_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace gpt2train
