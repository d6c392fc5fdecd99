#include "src/cli/scatter_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

constexpr double kWidth = 880, kHeight = 500;
constexpr double kLeft = 84, kRight = 656, kTop = 64, kBottom = 440;  // of the frame
constexpr double kMarker = 5;                                         // half its size
constexpr double kCharWidth = 6.8, kTextHeight = 11;                  // of 12 px digits and letters
constexpr int kTicks = 6;                                             // about as many an axis

// Okabe and Ito's colours, which people with any form of colour vision can tell apart.
constexpr std::array kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                 "#56b4e9", "#e69f00", "#000000"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// ---- axes ---------------------------------------------------------------------------------------

// Numbers to places between two ends.
struct Axis {
  double first = 0.0, last = 1.0;
  double begin = 0.0, end = 1.0;  // their places

  double place(double value) const {
    return begin + (value - first) / (last - first) * (end - begin);
  }
};

// 1, 2 or 5 times a power of ten.
double round_step(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1.0 - 1e-9)) return factor * power;
  }
  return 10.0 * power;
}

Axis make_axis(double low, double high, double begin, double end) {
  if (high <= low) {  // one value: some room around it
    const double room = std::max(std::abs(low), 1.0) * 0.1;
    low -= room;
    high += room;
  }
  const double margin = 0.05 * (high - low);  // no marker on the frame
  const bool from_zero = low >= 0.0 && low - margin < 0.3 * high;
  return {
      .first = from_zero ? 0.0 : low - margin, .last = high + margin, .begin = begin, .end = end};
}

std::string tick_text(double value, double step) {
  if (step >= 1.0) return with_commas(static_cast<std::int64_t>(std::llround(value)));
  return fmt::format("{:.{}f}", value, static_cast<int>(std::ceil(-std::log10(step) - 1e-9)));
}

// Multiples of a round step, as numbers and as text.
struct Tick {
  double value;
  std::string text;
};

std::vector<Tick> ticks_of(const Axis& axis) {
  const double step = round_step((axis.last - axis.first) / kTicks);
  std::vector<Tick> ticks;
  for (double n = std::ceil(axis.first / step); n * step <= axis.last; ++n) {
    ticks.push_back({.value = n * step, .text = tick_text(n * step, step)});
  }
  return ticks;
}

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
      const bool inside =
          box.left > kLeft && box.right < kRight && box.top > kTop && box.bottom < kBottom;
      if (inside && std::none_of(taken.begin(), taken.end(),
                                 [&](const Box& other) { return box.overlaps(other); })) {
        return PlacedLabel{.box = box, .far = distance > kMarker + 3};
      }
    }
  }
  return std::nullopt;
}

// ---- elements -----------------------------------------------------------------------------------

std::string text(double x, double y, const char* attributes, const std::string& words) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}>{}</text>\n", x, y, attributes,
                     escaped(words));
}

std::string line(double x1, double y1, double x2, double y2, const char* colour) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2,
      y2, colour);
}

const char* colour_of(const PlotSeries& series) {
  return kColours[series.colour % kColours.size()];
}

// A circle, square, triangle or diamond; the title is shown when the pointer rests on it.
std::string marker(double x, double y, const PlotSeries& series, bool filled,
                   const std::string& title) {
  const char* colour = colour_of(series);
  const std::string style = fmt::format("fill=\"{}\" stroke=\"{}\" stroke-width=\"1.5\"",
                                        filled ? colour : "#ffffff", colour);
  const std::string inner = title.empty() ? "" : fmt::format("<title>{}</title>", escaped(title));
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

std::string frame(const ScatterPlot& plot, const Axis& across, const Axis& up) {
  std::string out;
  for (const Tick& tick : ticks_of(across)) {
    const double x = across.place(tick.value);
    out += line(x, kTop, x, kBottom, "#e4e4e4");
    out += text(x, kBottom + 18, " text-anchor=\"middle\"", tick.text);
  }
  for (const Tick& tick : ticks_of(up)) {
    const double y = up.place(tick.value);
    out += line(kLeft, y, kRight, y, "#e4e4e4");
    out += text(kLeft - 8, y + 4, " text-anchor=\"end\"", tick.text);
  }
  out += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#777777\"/>\n",
      kLeft, kTop, kRight - kLeft, kBottom - kTop);
  out += text(kLeft, 26, " font-size=\"16\" font-weight=\"bold\"", plot.title);
  out += text(kLeft, 47, " fill=\"#555555\"", plot.subtitle);
  out += text((kLeft + kRight) / 2, kBottom + 42, " text-anchor=\"middle\"", plot.x_label);
  out += fmt::format(
      "<text transform=\"translate(22 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      (kTop + kBottom) / 2, escaped(plot.y_label));
  return out;
}

std::string legend(const ScatterPlot& plot) {
  std::string out;
  const double x = kRight + 26;
  double y = kTop + 10;
  for (const PlotSeries& series : plot.series) {
    out += marker(x, y, series, true, "");
    out += text(x + 14, y + 4, "", series.name);
    y += 22;
  }
  y += 6;
  out += fmt::format(
      "<path d=\"M{} {:.1f}h8v-6h8\" fill=\"none\" stroke=\"#999999\" "
      "stroke-width=\"2\"/>\n",
      x - 8, y + 3);
  out += text(x + 14, y + 4, "", plot.front_label);
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
  taken.push_back({x, y - 1, kRight, y + 1});
  return fmt::format("<path d=\"{}H{}\" fill=\"none\" stroke=\"#999999\" stroke-width=\"2\"/>\n",
                     path, kRight);
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
  const Axis across = make_axis(x_low, x_high, kLeft, kRight);
  const Axis up = make_axis(y_low, y_high, kBottom, kTop);

  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
      kWidth, kHeight);
  std::vector<Box> taken;
  out += frame(plot, across, up) + legend(plot) + staircase(plot, across, up, taken);

  std::vector<const PlotPoint*> order;  // the front has its labels first
  for (const PlotPoint& point : plot.points) {
    const double x = across.place(point.x), y = up.place(point.y);
    taken.push_back({x - kMarker - 1, y - kMarker - 1, x + kMarker + 1, y + kMarker + 1});
    taken.push_back({x - 1, up.place(point.y_high), x + 1, up.place(point.y_low)});
    out += line(x, up.place(point.y_low), x, up.place(point.y_high),
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
      labels += line(x, y, std::clamp(x, box.left, box.right), std::clamp(y, box.top, box.bottom),
                     "#aaaaaa");
    }
    labels += text(middle, box.bottom - 1.5,
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
