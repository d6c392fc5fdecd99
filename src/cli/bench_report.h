// The points of a sweep as people and programs read them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "src/cli/bench_point.h"
#include "src/cli/scatter_plot.h"

namespace gpt2train {

// Whether a point was measured, and no other is at least as fast with at most as much memory.
std::vector<bool> on_front(const std::vector<BenchPoint>& points);

// By dtype and memory; a star marks the front. Several lines, with a final newline.
std::string bench_table(const std::vector<BenchPoint>& points);

nlohmann::ordered_json bench_json(const std::vector<BenchPoint>& points);

// A header, then a line a point; what a point does not have is empty.
std::string bench_csv(const std::vector<BenchPoint>& points);

// Tokens a second against the peak of memory, of the points that were measured.
ScatterPlot bench_plot(const std::vector<BenchPoint>& points, const std::string& subtitle);

}  // namespace gpt2train
