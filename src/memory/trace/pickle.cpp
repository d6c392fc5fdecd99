// The structure of torch.cuda.memory._snapshot(), as torch/csrc/cuda/memory_snapshot.cpp writes it
// and torch/cuda/_memory_viz.py and torch/utils/viz/MemoryViz.js read it. Where PyTorch has a call
// stack, the frames are the tensor and then the scopes, from inside; addresses are positions.
#include <tuple>
#include <vector>

#include "src/memory/trace/pickle_stream.h"
#include "src/memory/trace/recording.h"
#include "src/memory/trace/writer.h"

namespace gpt2train {
namespace {

constexpr std::size_t kLargestSmallSegment = 2 << 20;  // by PyTorch's rule, and by ours

class PickleWriter final : public TraceWriter {
 public:
  PickleWriter(std::FILE* file, const CachingAllocator& allocator, std::size_t most_recorded)
      : allocator_(allocator), recording_(allocator.segments(), most_recorded), pickle_(file) {}

  void write(const MemoryEvent& event, std::int64_t time_ns) override {
    recording_.add(event, time_ns);
  }

  void finish() override {
    recording_.end_at_failure();
    pickle_.begin_dict();
    pickle_.text("segments");
    write_segments(recording_.after());
    pickle_.text("device_traces");
    pickle_.begin_list();
    write_events();
    pickle_.append();
    pickle_.text("allocator_settings");
    pickle_.begin_dict();
    field("expandable_segments", expandable());
    pickle_.end_dict();
    pickle_.text("external_annotations");
    pickle_.begin_list();
    pickle_.end_dict();
    pickle_.finish();
  }

 private:
  bool expandable() const { return allocator_.segments() == Segments::kExpandable; }

  void field(std::string_view key, std::string_view value) {
    pickle_.text(key);
    pickle_.text(value);
  }
  void field(std::string_view key, const char* value) { field(key, std::string_view(value)); }
  void field(std::string_view key, std::uint64_t value) {
    pickle_.text(key);
    pickle_.number(value);
  }
  void field(std::string_view key, bool value) {
    pickle_.text(key);
    pickle_.boolean(value);
  }

  void frame(std::string_view file, std::string_view name) {
    pickle_.begin_dict();
    field("name", name);
    field("filename", file);
    field("line", std::uint64_t{0});
    pickle_.end_dict();
    pickle_.append();
  }

  // Shown as "activations:0:qkv" above "training:0:block 7". Equal ones are written once.
  void frames(const RecordedEvent& event) {
    pickle_.text("frames");
    const auto key = std::tuple(event.tag, event.phase, *event.tensor, *event.scope);
    if (const auto it = frames_.find(key); it != frames_.end()) return pickle_.recall(it->second);
    pickle_.begin_list();
    if (!event.tensor->empty()) frame(name_of(event.tag), *event.tensor);
    std::vector<std::string_view> parts;
    for_each_part(*event.scope, [&](std::string_view part) { parts.push_back(part); });
    if (parts.empty()) parts.push_back(kNoScope);
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      frame(name_of(event.phase), *part);
    }
    frames_.emplace(key, pickle_.remember());
  }

  // ---- segments -------------------------------------------------------------------------------

  void block(std::uint64_t position, std::size_t bytes, const RecordedEvent* live) {
    pickle_.begin_dict();
    field("address", position);
    field("size", bytes);
    field("requested_size", live != nullptr ? bytes : 0);
    field("state", live != nullptr ? "active_allocated" : "inactive");
    if (live != nullptr) {
      frames(*live);
    } else {
      pickle_.text("frames");
      pickle_.begin_list();
    }
    pickle_.end_dict();
    pickle_.append();
  }

  void write_segments(const RecordedState& state) {
    pickle_.begin_list();
    auto live = state.blocks().begin();
    for (const auto& [begin, bytes] : state.segments()) {
      const std::uint64_t end = begin + bytes;
      std::size_t in_use = 0;
      for (auto it = live; it != state.blocks().end() && it->first < end; ++it) {
        in_use += it->second.bytes;
      }
      pickle_.begin_dict();
      field("device", std::uint64_t{0});
      field("address", begin);
      field("total_size", bytes);
      field("allocated_size", in_use);
      field("active_size", in_use);
      field("requested_size", in_use);
      field("stream", std::uint64_t{0});
      field("segment_type", bytes <= kLargestSmallSegment ? "small" : "large");
      pickle_.text("segment_pool_id");
      pickle_.pair_of_zeros();
      field("is_expandable", expandable());
      pickle_.text("frames");
      pickle_.begin_list();
      pickle_.text("blocks");
      pickle_.begin_list();
      std::uint64_t at = begin;
      for (; live != state.blocks().end() && live->first < end; ++live) {
        if (live->first > at) block(at, live->first - at, nullptr);
        block(live->first, live->second.bytes, &live->second);
        at = live->first + live->second.bytes;
      }
      if (at < end) block(at, end - at, nullptr);
      pickle_.end_dict();
      pickle_.append();
    }
  }

  // ---- events ---------------------------------------------------------------------------------

  void begin_event(const char* action, std::uint64_t time_ns) {
    pickle_.begin_dict();
    field("action", action);
    field("stream", std::uint64_t{0});
    field("time_us", time_ns / 1000);
  }
  void end_event() {
    pickle_.end_dict();
    pickle_.append();
  }

  void write_event(const char* action, const RecordedEvent& event) {
    begin_event(action, static_cast<std::uint64_t>(event.time_ns));
    field("addr", event.position);
    field("size", event.bytes);
    frames(event);
    if (event.action == MemoryAction::kAllocate) field("category", name_of(event.tag));
    end_event();
  }

  void write_failure(const RecordedEvent& event, std::size_t reserved) {
    const std::size_t budget = allocator_.budget_bytes();
    begin_event("oom", static_cast<std::uint64_t>(event.time_ns));
    field("addr", std::uint64_t{0});
    field("size", event.bytes);
    field("device_free",
          budget == CachingAllocator::kNoBudget || budget < reserved ? 0 : budget - reserved);
    frames(event);
    end_event();
  }

  void write_events() {
    pickle_.begin_list();
    // The page colours by category only where one is "unknown", and lists it first.
    begin_event("snapshot", 0);
    field("category", "unknown");
    end_event();
    std::size_t reserved = recording_.before().reserved_bytes();
    for (const RecordedEvent& event : recording_.events()) {
      switch (event.action) {
        case MemoryAction::kAllocate:
          write_event("alloc", event);
          break;
        case MemoryAction::kFree:
          write_event("free_requested", event);
          write_event("free_completed", event);
          break;
        case MemoryAction::kTakeSegment:
          reserved += event.bytes;
          write_event(expandable() ? "segment_map" : "segment_alloc", event);
          break;
        case MemoryAction::kReturnSegment:
          reserved -= event.bytes;
          write_event(expandable() ? "segment_unmap" : "segment_free", event);
          break;
        case MemoryAction::kOutOfMemory:
          write_failure(event, reserved);
          break;
      }
    }
  }

  const CachingAllocator& allocator_;
  MemoryRecording recording_;
  PickleStream pickle_;
  std::map<std::tuple<Tag, Phase, std::string, std::string>, std::uint32_t> frames_;
};

}  // namespace

std::unique_ptr<TraceWriter> pickle_writer(std::FILE* file, const CachingAllocator& allocator,
                                           std::size_t most_recorded) {
  return std::make_unique<PickleWriter>(file, allocator, most_recorded);
}

}  // namespace gpt2train
