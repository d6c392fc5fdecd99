#include "gpt2train/memory/trace.h"

#include <gtest/gtest.h>

#include <sstream>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/memory/tensor.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

// The lines of the file, without their time: that column must be a number that never falls.
std::vector<std::string> timeless_lines(const std::string& path) {
  std::istringstream text(test::read_file(path));
  std::vector<std::string> lines;
  long long last = -1;
  for (std::string line; std::getline(text, line);) {
    const std::size_t comma = line.find(',');
    if (!lines.empty()) {
      EXPECT_GE(std::stoll(line.substr(0, comma)), last) << line;
      last = std::stoll(line.substr(0, comma));
    }
    lines.push_back(line.substr(comma + 1));
  }
  return lines;
}

std::vector<std::string> traced(Upstream& upstream, const std::string& path) {
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  {
    const MemoryTrace trace(memory, path);
    const Buffer weights(memory, 12 * kMiB, {.tag = Tag::kWeights, .tensor = "wte"});
    const AllocScope step(memory, "step 0");
    const AllocScope block(memory, "block 1");
    const Buffer small(memory, 600, {.tag = Tag::kActivations, .tensor = "qkv"});
  }
  const Buffer later(memory, 600, {.tensor = "later"});  // no longer watched
  return timeless_lines(path);
}

TEST(MemoryTrace, WritesOneRowPerEventWhileItLives) {
  const test::TempDir dir;
  HostUpstream upstream;
  const std::vector<std::string> expected = {
      "event,position,bytes,category,tensor,scope,allocated_bytes,reserved_bytes",
      "alloc,0,12582912,weights,wte,(no scope),12582912,12582912",
      "alloc,12582912,1024,activations,qkv,step 0/block 1,12583936,14680064",
      "free,12582912,1024,activations,qkv,step 0/block 1,12582912,14680064",
      "free,0,12582912,weights,wte,(no scope),0,14680064"};
  EXPECT_EQ(traced(upstream, dir / "trace.csv"), expected);
}

TEST(MemoryTrace, OfADryRunEqualsThatOfARealOneButForTheTimes) {
  const test::TempDir dir;
  HostUpstream host;
  DryRunUpstream dry;
  EXPECT_EQ(traced(host, dir / "host.csv"), traced(dry, dir / "dry.csv"));
}

TEST(MemoryTrace, NamesTheFileThatCannotBeWritten) {
  const test::TempDir dir;
  DryRunUpstream upstream;
  CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
  const std::string path = dir / "absent/trace.csv";
  try {
    const MemoryTrace trace(memory, path);
    FAIL() << "opened";
  } catch (const DataError& error) {
    EXPECT_EQ(error.what(), path + ": cannot be written: No such file or directory");
  }
  const Buffer after(memory, 1, {});  // no observer was left behind
}

TEST(MemoryTrace, NamesTheFourFormatsWhereItGetsAnother) {
  EXPECT_EQ(trace_format_of("a/b.csv"), TraceFormat::kCsv);
  EXPECT_EQ(trace_format_of("b.json"), TraceFormat::kJson);
  EXPECT_EQ(trace_format_of("b.csv.pickle"), TraceFormat::kPickle);
  EXPECT_EQ(trace_format_of("b.html"), TraceFormat::kHtml);
  for (const char* path : {"", "b", "b.txt", "b.CSV", "csv", "b.csv/c"}) {
    try {
      static_cast<void>(trace_format_of(path));
      FAIL() << path;
    } catch (const ConfigError& error) {
      EXPECT_EQ(error.what(), concat("memory.trace: expected a file that ends in .csv, .json, "
                                     ".pickle or .html, found \"",
                                     path, '"'));
    }
  }
}

TEST(MemoryTrace, AFullDiskDoesNotEndTheRun) {
  const test::TempDir dir;
  for (const char* name : {"full.csv", "full.json", "full.pickle", "full.html"}) {
    std::filesystem::create_symlink("/dev/full", dir / name);
    DryRunUpstream upstream;
    CachingAllocator memory(upstream, CachingAllocator::kNoBudget);
    const MemoryTrace trace(memory, dir / name);
    for (int i = 0; i < 1000; ++i) memory.deallocate(memory.allocate(1, {.tensor = "qkv"}));
    EXPECT_EQ(memory.live_block_count(), 0u);
  }
}

}  // namespace
}  // namespace gpt2train
