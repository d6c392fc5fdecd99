// A scatter plot as SVG: series by colour and shape, whiskers, labels that do not overlap, and a
// staircase along the points that nothing beats. On a background of its own, so that it can be read
// on light and dark pages alike.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace gpt2train {

struct PlotSeries {
  std::string name = {};
  std::size_t colour = 0, shape = 0;  // numbers in lists that repeat
};

struct PlotPoint {
  double x = 0.0, y = 0.0;           // finite
  double y_low = 0.0, y_high = 0.0;  // ends of the whisker
  std::size_t series = 0;            // an index of ScatterPlot::series
  std::string label = {};            // beside the point, where there is room
  std::string title = {};            // shown when the pointer rests on it
  bool on_front = false;             // filled, and a corner of the staircase
};

struct ScatterPlot {
  std::string title = {}, subtitle = {}, x_label = {}, y_label = {};
  std::string front_label = {};  // of the staircase, in the legend
  std::vector<PlotSeries> series = {};
  std::vector<PlotPoint> points = {};
};

// One SVG document of 880 x 500 units.
std::string to_svg(const ScatterPlot& plot);

}  // namespace gpt2train
