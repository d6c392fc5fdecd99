#include "src/memory/trace/recording.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace gpt2train {

void RecordedState::apply(const RecordedEvent& event) {
  switch (event.action) {
    case MemoryAction::kAllocate:
      blocks_.insert_or_assign(event.position, event);
      break;
    case MemoryAction::kFree:
      blocks_.erase(event.position);
      break;
    case MemoryAction::kTakeSegment:
      take(event.position, event.bytes);
      break;
    case MemoryAction::kReturnSegment:
      give_back(event.position, event.bytes);
      break;
    case MemoryAction::kOutOfMemory:
      break;
  }
}

// An expandable segment grows where it ends; fixed ones lie end to end and stay apart.
void RecordedState::take(std::uint64_t position, std::size_t bytes) {
  const auto next = segments_.lower_bound(position);
  if (kind_ == Segments::kExpandable && next != segments_.begin()) {
    auto& [begin, size] = *std::prev(next);
    if (begin + size == position) {
      size += bytes;
      return;
    }
  }
  segments_.emplace(position, bytes);
}

void RecordedState::give_back(std::uint64_t position, std::size_t bytes) {
  const auto segment = std::prev(segments_.upper_bound(position));
  segment->second -= bytes;
  if (segment->second == 0) segments_.erase(segment);
}

std::size_t RecordedState::reserved_bytes() const {
  return std::accumulate(segments_.begin(), segments_.end(), std::size_t{0},
                         [](std::size_t sum, const auto& entry) { return sum + entry.second; });
}

void MemoryRecording::add(const MemoryEvent& event, std::int64_t time_ns) {
  auto tensor = tensors_.find(event.tensor);
  if (tensor == tensors_.end()) {
    tensor =
        tensors_
            .emplace(std::string(event.tensor), std::make_shared<const std::string>(event.tensor))
            .first;
  }
  if (*scope_ != event.scope) scope_ = std::make_shared<const std::string>(event.scope);
  events_.push_back({.time_ns = time_ns,
                     .action = event.action,
                     .phase = event.phase,
                     .tag = event.tag,
                     .position = event.position,
                     .bytes = event.bytes,
                     .tensor = tensor->second,
                     .scope = scope_});
  if (events_.size() <= most_) return;
  before_.apply(events_.front());
  events_.pop_front();
  ++forgotten_;
}

void MemoryRecording::end_at_failure() {
  const auto last = std::find_if(events_.rbegin(), events_.rend(), [](const RecordedEvent& event) {
    return event.action != MemoryAction::kFree;
  });
  if (last == events_.rend() || last->action != MemoryAction::kOutOfMemory) return;
  events_.erase(last.base(), events_.end());
}

RecordedState MemoryRecording::after() const {
  RecordedState state = before_;
  for (const RecordedEvent& event : events_) state.apply(event);
  return state;
}

}  // namespace gpt2train
