#include "gpt2train/memory/trace.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <iterator>

#include "gpt2train/core/error.h"

namespace gpt2train {

MemoryTrace::MemoryTrace(CachingAllocator& allocator, const std::string& path)
    : allocator_(allocator), file_(std::fopen(path.c_str(), "we")) {
  if (!file_) throw DataError(path, concat("cannot be written: ", std::strerror(errno)));
  std::fputs("time_ns,event,position,bytes,category,tensor,scope,allocated_bytes,reserved_bytes\n",
             file_.get());
  allocator_.set_observer([this](const MemoryEvent& event) { write(event); });
}

MemoryTrace::~MemoryTrace() {
  allocator_.set_observer({});
}

// Names are our own and hold no comma or quote. Not fmt::print, which throws where a write fails.
void MemoryTrace::write(const MemoryEvent& event) {
  const std::chrono::nanoseconds elapsed = std::chrono::steady_clock::now() - begin_;
  fmt::memory_buffer line;
  fmt::format_to(std::back_inserter(line), "{},{},{},{},{},{},{},{},{}\n", elapsed.count(),
                 event.is_free ? "free" : "alloc", event.position, event.bytes, name_of(event.tag),
                 event.tensor, event.scope, event.allocated_bytes, event.reserved_bytes);
  std::fwrite(line.data(), 1, line.size(), file_.get());
}

}  // namespace gpt2train
