#include "src/cli/curve_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "src/cli/plot_frame.h"
#include "src/memory/page/page.h"

namespace gpt2train {
namespace {

constexpr std::size_t kMostPoints = 400;  // of a curve; the frame has 572 units
constexpr std::size_t kLongestName = 26;  // in the legend

// Means of as many neighbours as leave kMostPoints or fewer.
Points thinned(const Points& points) {
  const std::size_t every = 1 + points.size() / kMostPoints;
  Points some;
  for (std::size_t i = 0; i < points.size(); i += every) {
    const std::size_t count = std::min(every, points.size() - i);
    double x = 0.0, y = 0.0;
    for (std::size_t k = i; k < i + count; ++k) {
      x += points[k].first;
      y += points[k].second;
    }
    some.emplace_back(x / static_cast<double>(count), y / static_cast<double>(count));
  }
  return some;
}

std::string path(const Points& points, const Axis& across, const Axis& up,
                 const std::string& style) {
  if (points.empty()) return "";
  fmt::memory_buffer d;
  for (const auto& [x, y] : points) {
    fmt::format_to(std::back_inserter(d), "{}{:.1f} {:.1f}", d.size() == 0 ? "M" : "L",
                   across.place(x), up.place(y));
  }
  return fmt::format("<path d=\"{}\" fill=\"none\" {}/>\n", std::string_view(d.data(), d.size()),
                     style);
}

std::string marker(double x, double y, const char* colour, const std::string& title) {
  return fmt::format(
      "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{}</title></circle>\n", x, y,
      colour, html_text(title));
}

// Of a long name the end, which tells runs apart.
std::string short_name(const std::string& name) {
  if (name.size() <= kLongestName) return name;
  return "..." + name.substr(name.size() - kLongestName + 3);
}

std::string legend(const CurvePlot& plot) {
  std::string out;
  const double x = kPlotRight + 16;
  double y = kPlotTop + 10;
  for (std::size_t i = 0; i < plot.curves.size(); ++i, y += 20) {
    out += fmt::format("<path d=\"M{:.1f} {:.1f}h16\" stroke=\"{}\" stroke-width=\"3\"/>\n", x, y,
                       plot_colour(i));
    out += svg_text(x + 22, y + 4, "", short_name(plot.curves[i].name));
  }
  y += 8;
  for (const auto& [label, style] :
       {std::pair(plot.often_label, "stroke-width=\"1\" stroke-opacity=\"0.45\""),
        std::pair(plot.seldom_label, "stroke-width=\"2\"")}) {
    out += fmt::format("<path d=\"M{:.1f} {:.1f}h16\" stroke=\"#555555\" {}/>\n", x, y, style);
    if (label == plot.seldom_label) {
      out +=
          fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"#555555\"/>\n", x + 8, y);
    }
    out += svg_text(x + 22, y + 4, " fill=\"#555555\"", label);
    y += 20;
  }
  return out;
}

}  // namespace

std::string to_svg(const CurvePlot& plot) {
  std::vector<PlotCurve> curves = plot.curves;
  Points all;
  for (PlotCurve& curve : curves) {
    curve.often = thinned(curve.often);
    all.insert(all.end(), curve.often.begin(), curve.often.end());
    all.insert(all.end(), curve.seldom.begin(), curve.seldom.end());
  }
  if (all.empty()) all.emplace_back(0.0, 0.0);
  const auto [left, right] = std::minmax_element(all.begin(), all.end());
  const auto [low, high] = std::minmax_element(
      all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const Axis across = make_axis(left->first, right->first, kPlotLeft, kPlotRight);
  const Axis up = make_axis(low->second, high->second, kPlotBottom, kPlotTop);

  std::string out = svg_begin({.title = plot.title,
                               .subtitle = plot.subtitle,
                               .x_label = plot.x_label,
                               .y_label = plot.y_label},
                              across, up) +
                    legend(plot);
  for (std::size_t i = 0; i < curves.size(); ++i) {
    out += path(curves[i].often, across, up,
                fmt::format("stroke=\"{}\" stroke-opacity=\"0.45\"", plot_colour(i)));
  }
  for (std::size_t i = 0; i < curves.size(); ++i) {  // over what is faint
    out += path(curves[i].seldom, across, up,
                fmt::format("stroke=\"{}\" stroke-width=\"2\"", plot_colour(i)));
    for (const auto& [x, y] : curves[i].seldom) {
      out += marker(across.place(x), up.place(y), plot_colour(i),
                    fmt::format("{}: {:.4f}", curves[i].name, y));
    }
  }
  return out + "</svg>\n";
}

}  // namespace gpt2train
