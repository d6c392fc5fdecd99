#include "src/cli/scatter_plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <regex>
#include <string>
#include <vector>

namespace gpt2train {
namespace {

// Points of two series, crowded to the left as those of a sweep are.
ScatterPlot crowded(int count) {
  ScatterPlot plot{.title = "Speed & <memory>",
                   .subtitle = "a \"machine\"",
                   .x_label = "peak memory, GiB",
                   .y_label = "tokens/s",
                   .front_label = "front",
                   .series = {{.name = "none", .colour = 0, .shape = 0},
                              {.name = "block", .colour = 1, .shape = 1}}};
  for (int i = 0; i < count; ++i) {
    const double x = std::pow(1.1, i), y = 1000.0 * std::sqrt(i % 7 + 1);
    plot.points.push_back({.x = x,
                           .y = y,
                           .y_low = 0.95 * y,
                           .y_high = 1.05 * y,
                           .series = static_cast<std::size_t>(i % 2),
                           .label = std::to_string(i + 1),
                           .title = "point " + std::to_string(i) + " <&>",
                           .on_front = i < 7});
  }
  return plot;
}

std::vector<std::smatch> matches(const std::string& text, const std::regex& pattern) {
  return {std::sregex_iterator(text.begin(), text.end(), pattern), std::sregex_iterator()};
}

// Elements close in order, attributes are quoted, and text has no character that needs an escape.
bool well_formed(const std::string& xml) {
  static const std::regex kTag(R"(<(/?)([a-z]+)((?: [a-zA-Z0-9:-]+="[^"<&]*")*)(/?)>)");
  static const std::regex kReference("&(amp|lt|gt|quot);");
  std::vector<std::string> open;
  std::size_t roots = 0;
  for (const std::smatch& tag : matches(xml, kTag)) {
    if (tag[1] == "/") {
      if (open.empty() || open.back() != tag[2]) return false;
      open.pop_back();
    } else {
      roots += open.empty() ? 1 : 0;
      if (tag[4] != "/") open.push_back(tag[2]);
    }
  }
  const std::string text = std::regex_replace(std::regex_replace(xml, kTag, ""), kReference, "");
  return open.empty() && roots == 1 && text.find_first_of("<>&") == std::string::npos;
}

TEST(ScatterPlot, IsWellFormedXml) {
  for (const int count : {0, 1, 2, 40}) {
    EXPECT_TRUE(well_formed(to_svg(crowded(count)))) << count << " points";
  }
  EXPECT_FALSE(well_formed("<svg><g></svg>"));
  EXPECT_FALSE(well_formed("<svg>a & b</svg>"));
}

TEST(ScatterPlot, HasEachPointInsideTheFrame) {
  const std::string svg = to_svg(crowded(40));
  const std::regex circle(R"re(<circle cx="([0-9.]+)" cy="([0-9.]+)"[^>]*><title>)re");
  for (int i = 0; i < 40; ++i) {
    EXPECT_NE(svg.find("<title>point " + std::to_string(i) + " &lt;&amp;&gt;"), std::string::npos);
  }
  const auto circles = matches(svg, circle);
  EXPECT_EQ(circles.size(), 20u);
  for (const std::smatch& point : circles) {
    EXPECT_GT(std::stod(point[1]), 84.0);
    EXPECT_LT(std::stod(point[1]), 656.0);
    EXPECT_GT(std::stod(point[2]), 64.0);
    EXPECT_LT(std::stod(point[2]), 440.0);
  }
}

TEST(ScatterPlot, PlacesGrowWithValues) {
  ScatterPlot plot = crowded(0);
  plot.points = {{.x = 2.0, .y = 100.0, .y_low = 100.0, .y_high = 100.0, .title = "a"},
                 {.x = 4.0, .y = 300.0, .y_low = 300.0, .y_high = 300.0, .title = "b"}};
  const std::regex circle(R"re(<circle cx="([0-9.]+)" cy="([0-9.]+)"[^>]*><title>)re");
  const std::string svg = to_svg(plot);
  const auto circles = matches(svg, circle);
  ASSERT_EQ(circles.size(), 2u);
  EXPECT_LT(std::stod(circles[0][1]), std::stod(circles[1][1]));
  EXPECT_GT(std::stod(circles[0][2]), std::stod(circles[1][2]));  // SVG's y runs down
}

TEST(ScatterPlot, LabelsDoNotOverlap) {
  ScatterPlot plot = crowded(0);
  for (int i = 0; i < 40; ++i) {  // in a corner: the last one is far away
    const double x = i < 39 ? 1.0 + 0.01 * i : 10.0, y = i < 39 ? 100.0 + i % 5 : 300.0;
    plot.points.push_back(
        {.x = x, .y = y, .y_low = y, .y_high = y, .label = std::to_string(i + 1)});
  }
  const std::string svg = to_svg(plot);
  const std::regex pattern(R"re(<text x="([0-9.]+)" y="([0-9.]+)" class="label"[^>]*>(\d+)<)re");
  const auto labels = matches(svg, pattern);
  EXPECT_GT(labels.size(), 6u) << "some have room";
  for (std::size_t i = 0; i < labels.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const double across = std::abs(std::stod(labels[i][1]) - std::stod(labels[j][1]));
      const double down = std::abs(std::stod(labels[i][2]) - std::stod(labels[j][2]));
      const auto characters = static_cast<double>(labels[i][3].length() + labels[j][3].length());
      EXPECT_TRUE(across > 3.3 * characters || down > 10.8) << labels[i][3] << ", " << labels[j][3];
    }
  }
}

}  // namespace
}  // namespace gpt2train
