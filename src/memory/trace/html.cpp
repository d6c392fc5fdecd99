// One page with its data. page.inc has the page, and the script up to the state after each event;
// chart.inc draws it; src/memory/page has what other pages have, too. Events and blocks are flat
// lists of numbers, in the order read there.
#include <fmt/format.h>

#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "src/memory/page/page.h"
#include "src/memory/trace/recording.h"
#include "src/memory/trace/writer.h"

namespace gpt2train {
namespace {

constexpr std::string_view kPage =
#include "src/memory/trace/page.inc"
    ;
constexpr std::string_view kChart =
#include "src/memory/trace/chart.inc"
    ;
constexpr std::string_view kDataMark = "/*DATA*/";

// Texts by number, in the order of their first use.
class Names {
 public:
  std::size_t number_of(const std::string& name) {
    const auto [it, is_new] = numbers_.emplace(name, list_.size());
    if (is_new) list_.push_back(&it->first);
    return it->second;
  }
  std::string json() const {
    std::string text;
    for (const std::string* name : list_) text += (text.empty() ? "" : ",") + json_string(*name);
    return '[' + text + ']';
  }

 private:
  std::map<std::string, std::size_t> numbers_;
  std::vector<const std::string*> list_;
};

template <class Enum>
std::string names_json(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += (i > 0 ? "," : "") + json_string(name_of(static_cast<Enum>(i)));
  }
  return '[' + text + ']';
}

std::string strings_json(const std::vector<std::string>& strings) {
  std::string text;
  for (const std::string& string : strings) text += (text.empty() ? "" : ",") + json_string(string);
  return '[' + text + ']';
}

std::string table_json(const TraceTable& table) {
  std::string rows;
  for (const auto& row : table.rows) rows += (rows.empty() ? "" : ",") + strings_json(row);
  return fmt::format("{{\"title\":{},\"columns\":{},\"rows\":[{}],\"marked\":{}}}",
                     json_string(table.title), strings_json(table.columns), rows,
                     table.marked ? fmt::to_string(*table.marked) : "null");
}

class HtmlWriter final : public TraceWriter {
 public:
  HtmlWriter(std::FILE* file, const CachingAllocator& allocator, TraceTable table,
             std::size_t most_recorded)
      : file_(file),
        allocator_(allocator),
        table_(std::move(table)),
        recording_(allocator.segments(), most_recorded) {}

  void write(const MemoryEvent& event, std::int64_t time_ns) override {
    recording_.add(event, time_ns);
  }

  void finish() override {
    recording_.end_at_failure();
    const std::size_t mark = kPage.find(kDataMark);
    put(page_begin("Memory of a gpt2train run"));
    put(kPage.substr(0, mark));
    write_data();
    put(kPage.substr(mark + kDataMark.size()));
    put(page_script());
    put(kChart);
  }

 private:
  void put(std::string_view text) { std::fwrite(text.data(), 1, text.size(), file_); }

  // Bytes and positions are multiples of the alignment, and written as such.
  void write_data() {
    Names tensors, scopes;
    fmt::memory_buffer events, blocks;
    for (const auto& [position, block] : recording_.before().blocks()) {
      fmt::format_to(std::back_inserter(blocks), "{},{},{},{},{},{},", unit(position),
                     unit(block.bytes), static_cast<int>(block.tag),
                     tensors.number_of(*block.tensor), scopes.number_of(*block.scope),
                     static_cast<int>(block.phase));
    }
    std::int64_t last_us = 0;
    for (const RecordedEvent& event : recording_.events()) {
      const std::int64_t now_us = event.time_ns / 1000;
      fmt::format_to(std::back_inserter(events), "{},{},{},{},{},{},{},{},\n", now_us - last_us,
                     static_cast<int>(event.action), unit(event.position), unit(event.bytes),
                     static_cast<int>(event.tag), tensors.number_of(*event.tensor),
                     scopes.number_of(*event.scope), static_cast<int>(event.phase));
      last_us = now_us;
    }
    const MemoryStats& stats = allocator_.stats();
    const std::size_t budget = allocator_.budget_bytes();
    put(fmt::format("{{\"unit\":{},\"budget\":{},\"forgotten\":{},\n", CachingAllocator::kAlignment,
                    budget == CachingAllocator::kNoBudget ? "null" : fmt::to_string(unit(budget)),
                    recording_.forgotten()));
    put(fmt::format("\"peak\":{{\"bytes\":{},\"phase\":{},\"scope\":{}}},\n",
                    unit(stats.peak_allocated_bytes), json_string(name_of(stats.peak_phase)),
                    json_string(stats.peak_scope)));
    put(fmt::format("\"tags\":{},\n\"phases\":{},\n", names_json<Tag>(kTagCount),
                    names_json<Phase>(kPhaseCount)));
    put(fmt::format("\"tensors\":{},\n\"scopes\":{},\n", tensors.json(), scopes.json()));
    put(fmt::format("\"table\":{},\n", table_json(table_)));
    put(fmt::format("\"reserved\":{},\n\"blocks\":[", unit(recording_.before().reserved_bytes())));
    put_list(blocks);
    put("],\n\"events\":[");
    put_list(events);
    put("]}");
  }

  // Without the last comma.
  void put_list(const fmt::memory_buffer& list) {
    std::string_view text(list.data(), list.size());
    text = text.substr(
        0, text.find_last_of(',') == std::string_view::npos ? 0 : text.find_last_of(','));
    put(text);
  }

  static std::uint64_t unit(std::uint64_t bytes) { return bytes / CachingAllocator::kAlignment; }

  std::FILE* file_;
  const CachingAllocator& allocator_;
  const TraceTable table_;
  MemoryRecording recording_;
};

}  // namespace

std::unique_ptr<TraceWriter> html_writer(std::FILE* file, const CachingAllocator& allocator,
                                         TraceTable table, std::size_t most_recorded) {
  return std::make_unique<HtmlWriter>(file, allocator, std::move(table), most_recorded);
}

}  // namespace gpt2train
