// What plots as SVG have in common: a frame with axes and a title, 880 x 500 units, on a background
// of its own, so that it can be read on light and dark pages alike.
#pragma once

#include <cstddef>
#include <string>

namespace gpt2train {

inline constexpr double kPlotLeft = 84, kPlotRight = 656;  // of the frame; the legend is beside it
inline constexpr double kPlotTop = 64, kPlotBottom = 440;

// Numbers to places between two ends.
struct Axis {
  double first = 0.0, last = 1.0;
  double begin = 0.0, end = 1.0;  // their places

  double place(double value) const {
    return begin + (value - first) / (last - first) * (end - begin);
  }
};

// With a margin around the values; from 0 where that is not far below them.
Axis make_axis(double low, double high, double begin, double end);

struct PlotTexts {
  std::string title = {}, subtitle = {}, x_label = {}, y_label = {};
};

// The document up to where points and lines follow; "</svg>" ends it.
std::string svg_begin(const PlotTexts& texts, const Axis& across, const Axis& up);

// Okabe and Ito's colours, which people with any form of colour vision can tell apart; they repeat.
const char* plot_colour(std::size_t number);

// Elements; `attributes` begin with a space, `words` are escaped.
std::string svg_text(double x, double y, const char* attributes, const std::string& words);
std::string svg_line(double x1, double y1, double x2, double y2, const char* colour);

}  // namespace gpt2train
