#include "src/cli/scatter_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "src/cli/plot_frame.h"
#include "src/memory/page/page.h"

namespace gpt2train {
namespace {

constexpr double kMarker = 5;                         // half its size
constexpr double kCharWidth = 6.8, kTextHeight = 11;  // of 12 px digits and letters

// ---- labels -------------------------------------------------------------------------------------

struct Box {
  double left, top, right, bottom;

  bool overlaps(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

struct PlacedLabel {
  Box box;
  bool far = false;  // a line leads to its point
};

// The nearest place around (x, y) that is free and in the frame.
std::optional<PlacedLabel> place_label(double x, double y, const std::string& text,
                                       const std::vector<Box>& taken) {
  const double width = kCharWidth * static_cast<double>(text.size());
  constexpr std::array<std::array<int, 2>, 8> kDirections = {
      {{1, 0}, {-1, 0}, {0, -1}, {0, 1}, {1, -1}, {-1, -1}, {1, 1}, {-1, 1}}};
  for (const double distance : {kMarker + 3, 2 * kMarker + 8, 4 * kMarker + 10}) {
    for (const auto [across, down] : kDirections) {
      const double middle_x = x + across * (distance + width / 2);
      const double middle_y = y + down * (distance + kTextHeight / 2);
      const Box box{middle_x - width / 2, middle_y - kTextHeight / 2, middle_x + width / 2,
                    middle_y + kTextHeight / 2};
      const bool inside = box.left > kPlotLeft && box.right < kPlotRight && box.top > kPlotTop &&
                          box.bottom < kPlotBottom;
      if (inside && std::none_of(taken.begin(), taken.end(),
                                 [&](const Box& other) { return box.overlaps(other); })) {
        return PlacedLabel{.box = box, .far = distance > kMarker + 3};
      }
    }
  }
  return std::nullopt;
}

// ---- elements -----------------------------------------------------------------------------------

const char* colour_of(const PlotSeries& series) {
  return plot_colour(series.colour);
}

// A circle, square, triangle or diamond; the title is shown when the pointer rests on it.
std::string marker(double x, double y, const PlotSeries& series, bool filled,
                   const std::string& title) {
  const char* colour = colour_of(series);
  const std::string style = fmt::format("fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"",
                                        filled ? colour : "#ffffff", colour);
  const std::string inner = title.empty() ? "" : fmt::format("<title>{}</title>", html_text(title));
  constexpr double r = kMarker;
  switch (series.shape % 4) {
    case 0:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" {}>{}</circle>\n", x, y, r,
                         style, inner);
    case 1:
      return fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{}\" {}>{}</rect>\n", x - r + 0.5,
          y - r + 0.5, 2 * r - 1, 2 * r - 1, style, inner);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l{} {}h{}z\" {}>{}</path>\n", x, y - r, r, 2 * r,
                         -2 * r, style, inner);
    default:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l{} {}l{} {}l{} {}z\" {}>{}</path>\n", x, y - r,
                         r, r, -r, r, -r, -r, style, inner);
  }
}

std::string legend(const ScatterPlot& plot) {
  std::string out;
  const double x = kPlotRight + 26;
  double y = kPlotTop + 10;
  for (const PlotSeries& series : plot.series) {
    out += marker(x, y, series, true, "");
    out += svg_text(x + 14, y + 4, "", series.name);
    y += 22;
  }
  y += 6;
  out += fmt::format(
      "<path d=\"M{} {:.1f}h8v-6h8\" fill=\"none\" stroke=\"#999999\" "
      "stroke-width=\"2\"/>\n",
      x - 8, y + 3);
  out += svg_text(x + 14, y + 4, "", plot.front_label);
  return out;
}

// What is attainable with so much of x: level up to the next point of the front, then up. `taken`
// gets its treads and risers.
std::string staircase(const ScatterPlot& plot, const Axis& across, const Axis& up,
                      std::vector<Box>& taken) {
  std::vector<const PlotPoint*> front;
  for (const PlotPoint& point : plot.points) {
    if (point.on_front) front.push_back(&point);
  }
  if (front.empty()) return "";
  std::sort(front.begin(), front.end(),
            [](const PlotPoint* a, const PlotPoint* b) { return a->x < b->x; });
  double x = across.place(front.front()->x), y = up.place(front.front()->y);
  std::string path = fmt::format("M{:.1f} {:.1f}", x, y);
  for (const PlotPoint* point : front) {
    const double next_x = across.place(point->x), next_y = up.place(point->y);
    path += fmt::format("H{:.1f}V{:.1f}", next_x, next_y);
    taken.push_back({x, y - 1, next_x, y + 1});
    taken.push_back({next_x - 1, next_y, next_x + 1, y});
    x = next_x;
    y = next_y;
  }
  taken.push_back({x, y - 1, kPlotRight, y + 1});
  return fmt::format("<path d=\"{}H{}\" fill=\"none\" stroke=\"#999999\" stroke-width=\"2\"/>\n",
                     path, kPlotRight);
}

}  // namespace

std::string to_svg(const ScatterPlot& plot) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double x_low = kInfinity, x_high = -kInfinity, y_low = kInfinity, y_high = -kInfinity;
  for (const PlotPoint& point : plot.points) {
    x_low = std::min(x_low, point.x);
    x_high = std::max(x_high, point.x);
    y_low = std::min({y_low, point.y, point.y_low});
    y_high = std::max({y_high, point.y, point.y_high});
  }
  if (plot.points.empty()) x_low = x_high = y_low = y_high = 0.0;
  const Axis across = make_axis(x_low, x_high, kPlotLeft, kPlotRight);
  const Axis up = make_axis(y_low, y_high, kPlotBottom, kPlotTop);

  std::vector<Box> taken;
  std::string out = svg_begin({.title = plot.title,
                               .subtitle = plot.subtitle,
                               .x_label = plot.x_label,
                               .y_label = plot.y_label},
                              across, up);
  out += legend(plot) + staircase(plot, across, up, taken);

  std::vector<const PlotPoint*> order;  // the front has its labels first
  for (const PlotPoint& point : plot.points) {
    const double x = across.place(point.x), y = up.place(point.y);
    taken.push_back({x - kMarker - 1, y - kMarker - 1, x + kMarker + 1, y + kMarker + 1});
    taken.push_back({x - 1, up.place(point.y_high), x + 1, up.place(point.y_low)});
    out += svg_line(x, up.place(point.y_low), x, up.place(point.y_high),
                    colour_of(plot.series[point.series]));
    order.push_back(&point);
  }
  std::stable_sort(order.begin(), order.end(), [](const PlotPoint* a, const PlotPoint* b) {
    return a->on_front && !b->on_front;
  });
  std::string labels;
  for (const PlotPoint* point : order) {
    const double x = across.place(point->x), y = up.place(point->y);
    const auto label = place_label(x, y, point->label, taken);
    if (!label) continue;
    const Box& box = label->box;
    taken.push_back(box);
    const double middle = (box.left + box.right) / 2;
    if (label->far) {
      labels += svg_line(x, y, std::clamp(x, box.left, box.right),
                         std::clamp(y, box.top, box.bottom), "#aaaaaa");
    }
    labels +=
        svg_text(middle, box.bottom - 1.5,
                 " class=\"label\" text-anchor=\"middle\" stroke=\"#ffffff\" stroke-width=\"3\" "
                 "paint-order=\"stroke\"",
                 point->label);
  }
  out += labels;  // lines below markers
  for (const PlotPoint& point : plot.points) {
    out += marker(across.place(point.x), up.place(point.y), plot.series[point.series],
                  point.on_front, point.title);
  }
  return out + "</svg>\n";
}

}  // namespace gpt2train
