// Curves as SVG, over one another.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace gpt2train {

using Points = std::vector<std::pair<double, double>>;  // x and y, finite, x rising

// What was measured often and is noisy, drawn faint; and what was measured seldom, with markers.
struct PlotCurve {
  std::string name = {};
  Points often = {}, seldom = {};
};

struct CurvePlot {
  std::string title = {}, subtitle = {}, x_label = {}, y_label = {};
  std::string often_label = {}, seldom_label = {};  // of the two kinds, in the legend
  std::vector<PlotCurve> curves = {};
};

// One SVG document of 880 x 500 units.
std::string to_svg(const CurvePlot& plot);

}  // namespace gpt2train
