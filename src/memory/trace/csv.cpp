// Columns: time_ns, event (alloc or free), position (MemoryEvent's: equal in every run of one
// configuration, dry or real), bytes, category, tensor, scope, allocated_bytes and reserved_bytes
// after the event. Segments show in the last column alone.
#include <fmt/format.h>

#include <iterator>

#include "src/memory/trace/writer.h"

namespace gpt2train {
namespace {

class CsvWriter final : public TraceWriter {
 public:
  explicit CsvWriter(std::FILE* file) : file_(file) {
    std::fputs(
        "time_ns,event,position,bytes,category,tensor,scope,allocated_bytes,reserved_bytes\n",
        file_);
  }

  // Names are our own and hold no comma or quote. Not fmt::print, which throws where a write fails.
  void write(const MemoryEvent& event, std::int64_t time_ns) override {
    const bool is_free = event.action == MemoryAction::kFree;
    if (!is_free && event.action != MemoryAction::kAllocate) return;
    fmt::memory_buffer line;
    fmt::format_to(std::back_inserter(line), "{},{},{},{},{},{},{},{},{}\n", time_ns,
                   is_free ? "free" : "alloc", event.position, event.bytes, name_of(event.tag),
                   event.tensor, event.scope, event.allocated_bytes, event.reserved_bytes);
    std::fwrite(line.data(), 1, line.size(), file_);
  }

  void finish() override {}

 private:
  std::FILE* file_;
};

}  // namespace

std::unique_ptr<TraceWriter> csv_writer(std::FILE* file) {
  return std::make_unique<CsvWriter>(file);
}

}  // namespace gpt2train
