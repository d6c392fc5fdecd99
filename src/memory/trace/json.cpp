// The Trace Event Format of Chrome, which Perfetto reads: a counter for each category, for what is
// allocated and what is reserved; phases and scopes as slices. Its array needs no closing bracket,
// so the file of a run that was killed opens too.
#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "src/memory/page/page.h"
#include "src/memory/trace/writer.h"

namespace gpt2train {
namespace {

constexpr int kPhases = 1, kScopes = 2;  // the threads that slices are shown as

class JsonWriter final : public TraceWriter {
 public:
  JsonWriter(std::FILE* file, const CachingAllocator& allocator) : file_(file) {
    std::fputs(
        "[{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"gpt2train\"}}",
        file_);
    name_thread(kPhases, "phases");
    name_thread(kScopes, "scopes");
    if (allocator.budget_bytes() != CachingAllocator::kNoBudget) {
      count("budget", allocator.budget_bytes());
    }
  }

  void write(const MemoryEvent& event, std::int64_t time_ns) override {
    time_ns_ = time_ns;
    enter(event.phase);
    enter(event.scope);
    switch (event.action) {
      case MemoryAction::kAllocate:
        change(event, event.bytes);
        break;
      case MemoryAction::kFree:
        change(event, std::size_t{0} - event.bytes);
        break;
      case MemoryAction::kTakeSegment:
      case MemoryAction::kReturnSegment:
        count("reserved", event.reserved_bytes);
        break;
      case MemoryAction::kOutOfMemory:
        put(R"("name":"out of memory","ph":"i","s":"g","tid":{},)"
            R"("args":{{"tensor":{},"category":"{}","bytes":{},"scope":{}}})",
            kScopes, json_string(event.tensor), name_of(event.tag), event.bytes,
            json_string(event.scope));
        break;
    }
  }

  void finish() override {
    enter(kNoScope);
    if (in_phase_) end_slice(kPhases);
    std::fputs("\n]\n", file_);
  }

 private:
  template <class... Values>
  void put(fmt::format_string<const Values&...> fields, const Values&... values) {
    fmt::memory_buffer line;
    fmt::format_to(std::back_inserter(line), ",\n{{\"pid\":1,\"ts\":{}.{:03},", time_ns_ / 1000,
                   time_ns_ % 1000);
    fmt::format_to(std::back_inserter(line), fields, values...);
    line.push_back('}');
    std::fwrite(line.data(), 1, line.size(), file_);
  }
  void name_thread(int thread, const char* name) {
    put(R"("name":"thread_name","ph":"M","tid":{},"args":{{"name":"{}"}})", thread, name);
  }
  void count(const char* name, std::size_t bytes) {
    put(R"("name":"{}","ph":"C","args":{{"bytes":{}}})", name, bytes);
  }
  void begin_slice(int thread, std::string_view name) {
    put(R"("name":{},"ph":"B","tid":{})", json_string(name), thread);
  }
  void end_slice(int thread) { put(R"("ph":"E","tid":{})", thread); }

  void change(const MemoryEvent& event, std::size_t bytes) {
    std::size_t& of_tag = by_tag_[static_cast<std::size_t>(event.tag)];
    of_tag += bytes;
    count(name_of(event.tag), of_tag);
    count("allocated", event.allocated_bytes);
  }

  void enter(Phase phase) {
    if (in_phase_ && phase == phase_) return;
    if (in_phase_) end_slice(kPhases);
    begin_slice(kPhases, name_of(phase));
    in_phase_ = true;
    phase_ = phase;
  }

  // A scope lasts from its first event to the first one outside.
  void enter(std::string_view scope) {
    if (scope == scope_) return;
    scope_ = scope;
    std::vector<std::string> parts;
    for_each_part(scope, [&](std::string_view part) { parts.emplace_back(part); });
    std::size_t same = 0;
    while (same < parts.size() && same < open_.size() && parts[same] == open_[same]) ++same;
    for (std::size_t depth = open_.size(); depth > same; --depth) end_slice(kScopes);
    for (std::size_t depth = same; depth < parts.size(); ++depth) {
      begin_slice(kScopes, parts[depth]);
    }
    open_ = std::move(parts);
  }

  std::FILE* file_;
  std::int64_t time_ns_ = 0;
  TagBytes by_tag_ = {};
  bool in_phase_ = false;
  Phase phase_ = Phase::kSetup;
  std::string scope_{kNoScope};
  std::vector<std::string> open_;  // the slices of scopes, from outside
};

}  // namespace

std::unique_ptr<TraceWriter> json_writer(std::FILE* file, const CachingAllocator& allocator) {
  return std::make_unique<JsonWriter>(file, allocator);
}

}  // namespace gpt2train
