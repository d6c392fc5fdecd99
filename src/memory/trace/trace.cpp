#include "gpt2train/memory/trace.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "gpt2train/core/error.h"
#include "src/memory/trace/writer.h"

namespace gpt2train {
namespace {

std::unique_ptr<TraceWriter> writer_of(const std::string& path, std::FILE* file,
                                       const CachingAllocator& allocator, TraceTable table,
                                       std::size_t most_recorded) {
  switch (trace_format_of(path)) {
    case TraceFormat::kCsv:
      break;
    case TraceFormat::kJson:
      return json_writer(file, allocator);
    case TraceFormat::kPickle:
      return pickle_writer(file, allocator, most_recorded);
    case TraceFormat::kHtml:
      return html_writer(file, allocator, std::move(table), most_recorded);
  }
  return csv_writer(file);
}

std::FILE* open_trace(const std::string& path) {
  static_cast<void>(trace_format_of(path));  // before the file is made
  return std::fopen(path.c_str(), "we");
}

}  // namespace

TraceFormat trace_format_of(const std::string& path) {
  if (path.ends_with(".csv")) return TraceFormat::kCsv;
  if (path.ends_with(".json")) return TraceFormat::kJson;
  if (path.ends_with(".pickle")) return TraceFormat::kPickle;
  if (path.ends_with(".html")) return TraceFormat::kHtml;
  throw ConfigError(
      "memory.trace",
      concat("expected a file that ends in .csv, .json, .pickle or .html, found \"", path, '"'));
}

MemoryTrace::MemoryTrace(CachingAllocator& allocator, const std::string& path, TraceTable table,
                         std::size_t most_recorded)
    : allocator_(allocator), file_(open_trace(path)) {
  if (!file_) throw DataError(path, concat("cannot be written: ", std::strerror(errno)));
  GPT2_CHECK(allocator.stats().reserved_bytes == 0, "a trace begins before the first allocation");
  writer_ = writer_of(path, file_.get(), allocator, std::move(table), most_recorded);
  allocator_.set_observer([this](const MemoryEvent& event) {
    const std::chrono::nanoseconds elapsed = std::chrono::steady_clock::now() - begin_;
    writer_->write(event, elapsed.count());
  });
}

MemoryTrace::~MemoryTrace() {
  allocator_.set_observer({});
  writer_->finish();
}

}  // namespace gpt2train
