// Each format of a trace is read back, by the plainest reader that its specification allows, and
// compared with the allocator.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/memory/tensor.h"
#include "gpt2train/memory/trace.h"
#include "src/memory/trace/pickle_stream.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using Json = nlohmann::json;

// ---- readers ----------------------------------------------------------------------------------

// The machine of Python's pickletools, as far as protocol 4 is used; a tuple is an array.
Json unpickle(const std::string& bytes) {
  std::vector<Json> stack, memo;
  std::vector<std::size_t> marks;
  std::size_t at = 0;
  const auto number = [&](std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t byte = static_cast<unsigned char>(bytes.at(at++));
      if (i < 8) value |= byte << (8 * i);
    }
    return value;
  };
  const auto pop = [&] {
    Json value = std::move(stack.back());
    stack.pop_back();
    return value;
  };
  for (;;) {
    switch (const char opcode = bytes.at(at++); static_cast<unsigned char>(opcode)) {
      case 0x80:  // PROTO
        EXPECT_EQ(number(1), 4u);
        break;
      case 'K':  // BININT1
        stack.emplace_back(number(1));
        break;
      case 'M':  // BININT2
        stack.emplace_back(number(2));
        break;
      case 'J':  // BININT: signed, but never negative here
        stack.emplace_back(number(4));
        EXPECT_LT(stack.back(), 0x80000000);
        break;
      case 0x8a: {  // LONG1: signed too
        const std::size_t count = number(1);
        EXPECT_EQ(bytes.at(at + count - 1) & 0x80, 0);
        stack.emplace_back(number(count));
        break;
      }
      case 'X': {  // BINUNICODE
        const std::size_t count = number(4);
        stack.emplace_back(bytes.substr(at, count));
        at += count;
        break;
      }
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        stack.emplace_back(static_cast<unsigned char>(opcode) == 0x88);
        break;
      case '}':  // EMPTY_DICT
        stack.push_back(Json::object());
        break;
      case ']':  // EMPTY_LIST
        stack.push_back(Json::array());
        break;
      case '(':  // MARK
        marks.push_back(stack.size());
        break;
      case 'u': {  // SETITEMS
        const std::size_t mark = marks.back();
        marks.pop_back();
        for (std::size_t i = mark; i + 1 < stack.size(); i += 2) {
          stack[mark - 1][stack[i].get<std::string>()] = stack[i + 1];
        }
        stack.resize(mark);
        break;
      }
      case 'a': {  // APPEND
        Json value = pop();
        stack.back().push_back(std::move(value));
        break;
      }
      case 0x86: {  // TUPLE2
        Json second = pop(), first = pop();
        stack.push_back(Json::array({std::move(first), std::move(second)}));
        break;
      }
      case 0x94:  // MEMOIZE
        memo.push_back(stack.back());
        break;
      case 'h':  // BINGET
        stack.push_back(memo.at(number(1)));
        break;
      case 'j':  // LONG_BINGET
        stack.push_back(memo.at(number(4)));
        break;
      case '.':  // STOP
        EXPECT_EQ(at, bytes.size());
        EXPECT_EQ(stack.size(), 1u);
        return pop();
      default:
        throw std::runtime_error(concat("opcode ", static_cast<int>(opcode), " at ", at));
    }
  }
}

// What the script of the page is given.
Json page_data(const std::string& page) {
  const std::size_t begin = page.find("const data =\n") + 13;
  return Json::parse(page.substr(begin, page.find(";\n", begin) - begin));
}

struct Row {
  bool is_free = false;
  std::uint64_t position = 0;
  std::size_t bytes = 0;
  std::string category;  // empty where the format says it of allocations alone
  bool operator==(const Row&) const = default;
};

std::vector<Row> csv_rows(const std::string& text) {
  std::vector<Row> rows;
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream cells(line);
    std::string time, event, position, bytes, category;
    for (std::string* cell : {&time, &event, &position, &bytes, &category}) {
      std::getline(cells, *cell, ',');
    }
    rows.push_back({event == "free", std::stoull(position), std::stoull(bytes), category});
  }
  return rows;
}

std::vector<Row> pickle_rows(const std::string& bytes) {
  const Json snapshot = unpickle(bytes);
  std::vector<Row> rows;
  for (const Json& event : snapshot["device_traces"][0]) {
    const std::string action = event["action"];
    if (action != "alloc" && action != "free_completed") continue;
    rows.push_back(
        {action != "alloc", event["addr"], event["size"], event.value("category", std::string())});
  }
  return rows;
}

std::vector<Row> html_rows(const std::string& page) {
  const Json data = page_data(page);
  const std::vector<std::uint64_t> events = data["events"];
  const std::uint64_t unit = data["unit"];
  std::vector<Row> rows;
  for (std::size_t at = 0; at < events.size(); at += 8) {
    if (events[at + 1] > 1) continue;
    rows.push_back({events[at + 1] == 1, events[at + 2] * unit, events[at + 3] * unit,
                    data["tags"][events[at + 4]]});
  }
  return rows;
}

// ---- a run to watch ---------------------------------------------------------------------------

constexpr std::size_t kWteBytes = 4 * kMiB + 512 * kKiB;  // of a segment, leaves a free block

// Bytes of each category after each allocation and free, as the allocator has them.
using History = std::vector<std::map<std::string, std::size_t>>;

History random_run(CachingAllocator& memory) {
  History history;
  std::mt19937 random(5);
  std::vector<void*> live;
  const auto note = [&] {
    std::map<std::string, std::size_t>& now = history.emplace_back();
    for (std::size_t tag = 0; tag < kTagCount; ++tag) {
      now[name_of(static_cast<Tag>(tag))] = memory.stats().by_tag[tag];
    }
    now["allocated"] = memory.stats().allocated_bytes;
  };
  for (int step = 0; step < 60; ++step) {
    const PhaseScope phase(memory, static_cast<Phase>(random() % kPhaseCount));
    const AllocScope outer(memory, concat("step ", step));
    for (int micro = 0; micro < 5; ++micro) {
      const AllocScope inner(memory, concat("micro ", micro));
      try {
        const std::size_t most = random() % 4 == 0 ? 20 * kMiB : kMiB;
        live.push_back(memory.allocate(
            random() % most, {.tag = static_cast<Tag>(random() % kTagCount), .tensor = "t"}));
        note();
      } catch (const OutOfMemoryError&) {
      }
      if (random() % 10 < 2 || live.empty()) continue;
      std::swap(live[random() % live.size()], live.back());
      memory.deallocate(live.back());
      live.pop_back();
      note();
    }
  }
  while (!live.empty()) {
    memory.deallocate(live.back());
    live.pop_back();
    note();
  }
  return history;
}

History sums(const std::vector<Row>& rows) {
  History history;
  std::map<std::string, std::size_t> now;
  std::map<std::uint64_t, std::string> category_at;
  for (std::size_t tag = 0; tag < kTagCount; ++tag) now[name_of(static_cast<Tag>(tag))] = 0;
  now["allocated"] = 0;
  for (const Row& row : rows) {
    if (!row.is_free) category_at[row.position] = row.category;
    for (const std::string& name : {category_at.at(row.position), std::string("allocated")}) {
      row.is_free ? now[name] -= row.bytes : now[name] += row.bytes;
    }
    history.push_back(now);
  }
  return history;
}

class TraceFormats : public testing::TestWithParam<Segments> {
 protected:
  // The text of a trace of `run`, in the format of `suffix`.
  template <class Run>
  std::string traced(const std::string& suffix, const Run& run,
                     std::size_t most_recorded = MemoryTrace::kMostRecorded) {
    const std::string path = dir / ("trace" + suffix);
    DryRunUpstream upstream;
    CachingAllocator memory(upstream, 100 * kMiB, GetParam());
    {
      const MemoryTrace trace(memory, path, table, most_recorded);
      run(memory);
    }
    return test::read_file(path);
  }
  test::TempDir dir;
  TraceTable table;
};
INSTANTIATE_TEST_SUITE_P(Segments, TraceFormats,
                         testing::Values(Segments::kFixed, Segments::kExpandable));

TEST_P(TraceFormats, SumToWhatTheAllocatorHasAtEachEvent) {
  History expected;
  const auto run = [&](CachingAllocator& memory) {
    expected = random_run(memory);
    EXPECT_GT(memory.stats().cache_releases, 0u) << "the budget was never tight";
  };
  const std::string csv = traced(".csv", run);
  EXPECT_GT(expected.size(), 200u);
  EXPECT_EQ(sums(csv_rows(csv)), expected);
  EXPECT_EQ(sums(pickle_rows(traced(".pickle", run))), expected);
  EXPECT_EQ(sums(html_rows(traced(".html", run))), expected);

  History counted;
  std::map<std::string, std::size_t> now = sums({{false, 0, 0, "weights"}}).front();
  for (const Json& event : Json::parse(traced(".json", run))) {
    if (event["ph"] != "C" || !now.contains(event["name"])) continue;
    now[event["name"]] = event["args"]["bytes"];
    if (event["name"] == "allocated") counted.push_back(now);
  }
  EXPECT_EQ(counted, expected);
}

// ---- JSON -------------------------------------------------------------------------------------

TEST_P(TraceFormats, JsonHasNestedSlicesInTheOrderOfTime) {
  const Json trace = Json::parse(traced(".json", [](CachingAllocator& memory) {
    static_cast<void>(random_run(memory));
    const AllocScope again(memory, "at the end");
    const Buffer last(memory, 1, {});
  }));
  std::map<int, std::vector<std::string>> open;
  std::size_t deepest = 0;
  double last = 0.0;
  for (const Json& event : trace) {
    if (event["ph"] == "M") continue;
    EXPECT_GE(event["ts"], last);
    last = event["ts"];
    if (event["ph"] == "B") open[event["tid"]].push_back(event["name"]);
    if (event["ph"] != "E") continue;
    std::vector<std::string>& slices = open[event["tid"]];
    deepest = std::max(deepest, slices.size());
    ASSERT_FALSE(slices.empty());
    slices.pop_back();
  }
  EXPECT_EQ(deepest, 2u);  // step 3, micro 4
  for (const auto& [thread, slices] : open) EXPECT_TRUE(slices.empty()) << thread;
}

TEST_P(TraceFormats, JsonSaysWhatDidNotFit) {
  const Json trace = Json::parse(traced(".json", [](CachingAllocator& memory) {
    const AllocScope scope(memory, "step 7");
    EXPECT_THROW(static_cast<void>(memory.allocate(
                     101 * kMiB, {.tag = Tag::kLogits, .tensor = "\"logits\" <&>"})),
                 OutOfMemoryError);
  }));
  const auto failure =
      std::find_if(trace.begin(), trace.end(), [](const Json& e) { return e["ph"] == "i"; });
  ASSERT_NE(failure, trace.end());
  EXPECT_EQ((*failure)["args"], (Json{{"tensor", "\"logits\" <&>"},
                                      {"category", "logits"},
                                      {"bytes", 101 * kMiB},
                                      {"scope", "step 7"}}));
}

// ---- pickle -----------------------------------------------------------------------------------

TEST(PickleStream, WritesNumbersAsTheSpecificationSays) {
  const std::pair<std::uint64_t, std::string> cases[] = {
      {0, std::string("K\0", 2)},
      {255, "K\xff"},
      {256, std::string("M\0\x01", 3)},
      {65535, "M\xff\xff"},
      {65536, std::string("J\0\0\x01\0", 5)},
      {0x7fffffff, "J\xff\xff\xff\x7f"},
      {0x80000000, std::string("\x8a\x05\0\0\0\x80\0", 7)},
      {0x7fffffffffffffff, "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"},
      {0xffffffffffffffff, std::string("\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0", 11)}};
  const test::TempDir dir;
  for (const auto& [value, bytes] : cases) {
    std::FILE* file = std::fopen((dir / "number").c_str(), "w");
    PickleStream pickle(file);
    pickle.number(value);
    pickle.finish();
    std::fclose(file);
    EXPECT_EQ(test::read_file(dir / "number"), "\x80\x04" + bytes + ".") << value;
  }
}

Json frame(const char* file, const char* name) {
  return {{"filename", file}, {"name", name}, {"line", 0}};
}

TEST_P(TraceFormats, PickleIsASnapshotOfSegmentsAndEvents) {
  const Json snapshot = unpickle(traced(".pickle", [](CachingAllocator& memory) {
    const AllocScope model(memory, "model");
    void* const wte = memory.allocate(kWteBytes, {.tag = Tag::kWeights, .tensor = "wte"});
    static_cast<void>(wte);  // alive when the trace ends
    const PhaseScope phase(memory, Phase::kTraining);
    const AllocScope block(memory, "block 1");
    memory.deallocate(memory.allocate(600, {.tag = Tag::kActivations, .tensor = "qkv"}));
  }));
  const bool expandable = GetParam() == Segments::kExpandable;
  const Json wte_frames = {frame("weights", "wte"), frame("setup", "model")};
  ASSERT_EQ(snapshot["segments"].size(), 2u);
  const Json& segment = snapshot["segments"][0];
  const std::size_t taken = expandable ? 6 * kMiB : 20 * kMiB;
  EXPECT_EQ(segment["device"], 0);
  EXPECT_EQ(segment["total_size"], taken);
  EXPECT_EQ(segment["allocated_size"], kWteBytes);
  EXPECT_EQ(segment["is_expandable"], expandable);
  EXPECT_EQ(segment["segment_pool_id"], Json({0, 0}));
  ASSERT_EQ(segment["blocks"].size(), 2u);
  EXPECT_EQ(segment["blocks"][0]["state"], "active_allocated");
  EXPECT_EQ(segment["blocks"][0]["size"], kWteBytes);
  EXPECT_EQ(segment["blocks"][0]["requested_size"], kWteBytes);
  EXPECT_EQ(segment["blocks"][0]["frames"], wte_frames);
  EXPECT_EQ(segment["blocks"][1]["state"], "inactive");
  EXPECT_EQ(segment["blocks"][1]["address"], segment["address"].get<std::size_t>() + kWteBytes);

  std::vector<std::string> actions;
  for (const Json& event : snapshot["device_traces"][0]) actions.push_back(event["action"]);
  const std::string take = expandable ? "segment_map" : "segment_alloc";
  EXPECT_EQ(actions, (std::vector<std::string>{"snapshot", take, "alloc", take, "alloc",
                                               "free_requested", "free_completed"}));
  const Json& qkv = snapshot["device_traces"][0][4];
  EXPECT_EQ(qkv["size"], 1024);
  EXPECT_EQ(qkv["category"], "activations");
  EXPECT_EQ(qkv["frames"], (Json{frame("activations", "qkv"), frame("training", "block 1"),
                                 frame("training", "model")}));
  EXPECT_EQ(snapshot["device_traces"][0][0]["category"], "unknown");
}

TEST_P(TraceFormats, PickleEndsWithTheSegmentsThatTheAllocatorHas) {
  std::size_t reserved = 0, allocated = 0;
  const Json snapshot = unpickle(traced(
      ".pickle",
      [&](CachingAllocator& memory) {
        static_cast<void>(random_run(memory));
        std::mt19937 random(6);
        for (int i = 0; i < 30; ++i) static_cast<void>(memory.allocate(random() % (3 * kMiB), {}));
        memory.release_cached();
        reserved = memory.stats().reserved_bytes;
        allocated = memory.stats().allocated_bytes;
      },
      50));
  const Json& events = snapshot["device_traces"][0];
  EXPECT_EQ(std::count_if(events.begin(), events.end(),
                          [](const Json& e) { return e["action"] != "free_requested"; }),
            1 + 50);
  std::size_t total = 0, in_use = 0;
  for (const Json& segment : snapshot["segments"]) {
    std::size_t at = segment["address"], live = 0;
    for (const Json& block : segment["blocks"]) {
      EXPECT_EQ(block["address"], at);
      at += block["size"].get<std::size_t>();
      if (block["state"] == "active_allocated") live += block["size"].get<std::size_t>();
    }
    EXPECT_EQ(at, segment["address"].get<std::size_t>() + segment["total_size"].get<std::size_t>());
    EXPECT_EQ(live, segment["active_size"]);
    total += segment["total_size"].get<std::size_t>();
    in_use += live;
  }
  EXPECT_GT(in_use, 0u);
  EXPECT_EQ(total, reserved);
  EXPECT_EQ(in_use, allocated);
}

TEST_P(TraceFormats, AnErrorThatEndsTheRunEndsTheRecording) {
  const auto run = [](bool goes_on) {
    return [goes_on](CachingAllocator& memory) {
      try {
        const Buffer weights(memory, 60 * kMiB, {.tag = Tag::kWeights, .tensor = "wte"});
        const Buffer logits(memory, 60 * kMiB, {.tag = Tag::kLogits, .tensor = "logits"});
      } catch (const OutOfMemoryError&) {
      }
      if (goes_on) memory.deallocate(memory.allocate(1, {}));
    };
  };
  const auto in_use = [](const Json& snapshot) {
    std::size_t sum = 0;
    for (const Json& segment : snapshot["segments"]) {
      sum += segment["allocated_size"].get<std::size_t>();
    }
    return sum;
  };
  const Json ended = unpickle(traced(".pickle", run(false)));
  EXPECT_EQ(in_use(ended), 60 * kMiB);
  const Json& failure = ended["device_traces"][0].back();
  EXPECT_EQ(failure["action"], "oom");
  EXPECT_EQ(failure["size"], 60 * kMiB);
  EXPECT_EQ(failure["device_free"], 40 * kMiB);
  EXPECT_EQ(failure["frames"], (Json{frame("logits", "logits"), frame("setup", "(no scope)")}));

  EXPECT_EQ(in_use(unpickle(traced(".pickle", run(true)))), 0u);
  EXPECT_EQ(html_rows(traced(".html", run(false))).size(), 1u);
  EXPECT_EQ(html_rows(traced(".html", run(true))).size(), 4u);
}

// ---- HTML -------------------------------------------------------------------------------------

TEST_P(TraceFormats, HtmlNeedsNothingButItself) {
  const std::string page = traced(".html", random_run);
  EXPECT_EQ(page.substr(0, 16), "<!doctype html>\n");
  EXPECT_EQ(page.substr(page.size() - 8), "</html>\n");
  for (const char* reference : {"http", "//cdn", "src=", "href", "import", "url(", "fetch(",
                                "@font", "XMLHttpRequest", "WebSocket"}) {
    EXPECT_EQ(page.find(reference), std::string::npos) << reference;
  }
}

TEST_P(TraceFormats, HtmlKeepsItsScriptWhole) {
  const std::string page = traced(".html", [](CachingAllocator& memory) {
    const AllocScope scope(memory, "</script>");
    const Buffer buffer(memory, 1, {.tensor = "</script>"});
  });
  EXPECT_EQ(page.find("</script>"), page.rfind("</script>"));
  EXPECT_EQ(page_data(page)["tensors"], (Json{"", "</script>"}));
}

TEST_P(TraceFormats, HtmlHasTheTableItWasGiven) {
  table = {.title = "Plans",
           .columns = {"micro-batch", "peak"},
           .rows = {{"8", "<b>"}, {"4", "1 GiB"}},
           .marked = 1};
  const Json shown = page_data(traced(".html", random_run))["table"];
  EXPECT_EQ(shown["title"], "Plans");
  EXPECT_EQ(shown["columns"], Json(table.columns));
  EXPECT_EQ(shown["rows"], Json(table.rows));
  EXPECT_EQ(shown["marked"], 1);
  table = {};
  EXPECT_EQ(page_data(traced(".html", random_run))["table"]["columns"], Json::array());
}

TEST_P(TraceFormats, HtmlKeepsTheNewestEventsAndWhatWasAliveBefore) {
  const Json data = page_data(traced(
      ".html",
      [](CachingAllocator& memory) {
        const Buffer weights(memory, kWteBytes, {.tag = Tag::kWeights, .tensor = "wte"});
        {
          const AllocScope scope(memory, "high");
          memory.deallocate(memory.allocate(10 * kMiB, {}));
        }
        for (int i = 0; i < 5; ++i) memory.deallocate(memory.allocate(3 * kMiB, {.tensor = "t"}));
      },
      5));
  EXPECT_EQ(data["events"].size(), 5u * 8);
  EXPECT_EQ(data["unit"], 512);
  EXPECT_EQ(data["budget"], 100 * kMiB / 512);
  const std::size_t all = 2 * 7 + (GetParam() == Segments::kExpandable ? 2 : 1);
  EXPECT_EQ(data["forgotten"], all - 5);
  // Position, bytes, category, tensor, scope and phase of the block that was alive before.
  EXPECT_EQ(data["blocks"], Json({0, kWteBytes / 512, 0, 0, 0, 0}));
  EXPECT_EQ(data["tensors"][0], "wte");
  EXPECT_EQ(
      data["peak"],
      (Json{{"bytes", (kWteBytes + 10 * kMiB) / 512}, {"phase", "setup"}, {"scope", "high"}}));
}

}  // namespace
}  // namespace gpt2train
