// The newest events of a run and the state before them: what a snapshot is made of. Its memory is
// the host's, outside of the ledger, and bounded.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "gpt2train/memory/allocator.h"

namespace gpt2train {

struct RecordedEvent {
  std::int64_t time_ns = 0;
  MemoryAction action = MemoryAction::kAllocate;
  Phase phase = Phase::kSetup;
  Tag tag = Tag::kWorkspace;
  std::uint64_t position = 0;
  std::size_t bytes = 0;
  std::shared_ptr<const std::string> tensor, scope;  // never null
};

// Segments with their bytes, and live blocks with the events that made them, by position.
class RecordedState {
 public:
  explicit RecordedState(Segments kind) : kind_(kind) {}
  void apply(const RecordedEvent& event);

  const std::map<std::uint64_t, std::size_t>& segments() const { return segments_; }
  const std::map<std::uint64_t, RecordedEvent>& blocks() const { return blocks_; }
  std::size_t reserved_bytes() const;

 private:
  void take(std::uint64_t position, std::size_t bytes);
  void give_back(std::uint64_t position, std::size_t bytes);

  Segments kind_;
  std::map<std::uint64_t, std::size_t> segments_;
  std::map<std::uint64_t, RecordedEvent> blocks_;
};

class MemoryRecording {
 public:
  MemoryRecording(Segments kind, std::size_t most_events) : most_(most_events), before_(kind) {}

  void add(const MemoryEvent& event, std::int64_t time_ns);
  // Leaves out what came after an out-of-memory error, if it was frees alone.
  void end_at_failure();

  const std::deque<RecordedEvent>& events() const { return events_; }
  const RecordedState& before() const { return before_; }  // the first of them
  RecordedState after() const;                             // the last of them
  std::uint64_t forgotten() const { return forgotten_; }   // events before the first

 private:
  std::size_t most_;
  std::deque<RecordedEvent> events_;
  RecordedState before_;
  std::uint64_t forgotten_ = 0;
  // Names are shared: those of tensors are few, and a scope mostly is that of the event before.
  std::map<std::string, std::shared_ptr<const std::string>, std::less<>> tensors_;
  std::shared_ptr<const std::string> scope_ = std::make_shared<const std::string>();
};

}  // namespace gpt2train
