#include "src/cli/plot_frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "gpt2train/core/units.h"
#include "src/memory/page/page.h"

namespace gpt2train {
namespace {

constexpr double kWidth = 880, kHeight = 500;
constexpr int kTicks = 6;  // about as many an axis

constexpr std::array kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                 "#56b4e9", "#e69f00", "#000000"};

// 1, 2 or 5 times a power of ten.
double round_step(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1.0 - 1e-9)) return factor * power;
  }
  return 10.0 * power;
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

}  // namespace

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

const char* plot_colour(std::size_t number) {
  return kColours[number % kColours.size()];
}

std::string svg_text(double x, double y, const char* attributes, const std::string& words) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}>{}</text>\n", x, y, attributes,
                     html_text(words));
}

std::string svg_line(double x1, double y1, double x2, double y2, const char* colour) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2,
      y2, colour);
}

std::string svg_begin(const PlotTexts& texts, const Axis& across, const Axis& up) {
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
      kWidth, kHeight);
  for (const Tick& tick : ticks_of(across)) {
    const double x = across.place(tick.value);
    out += svg_line(x, kPlotTop, x, kPlotBottom, "#e4e4e4");
    out += svg_text(x, kPlotBottom + 18, " text-anchor=\"middle\"", tick.text);
  }
  for (const Tick& tick : ticks_of(up)) {
    const double y = up.place(tick.value);
    out += svg_line(kPlotLeft, y, kPlotRight, y, "#e4e4e4");
    out += svg_text(kPlotLeft - 8, y + 4, " text-anchor=\"end\"", tick.text);
  }
  out += fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#777777\"/>\n",
      kPlotLeft, kPlotTop, kPlotRight - kPlotLeft, kPlotBottom - kPlotTop);
  out += svg_text(kPlotLeft, 26, " font-size=\"16\" font-weight=\"bold\"", texts.title);
  out += svg_text(kPlotLeft, 47, " fill=\"#555555\"", texts.subtitle);
  out += svg_text((kPlotLeft + kPlotRight) / 2, kPlotBottom + 42, " text-anchor=\"middle\"",
                  texts.x_label);
  out += fmt::format(
      "<text transform=\"translate(22 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
      (kPlotTop + kPlotBottom) / 2, html_text(texts.y_label));
  return out;
}

}  // namespace gpt2train
