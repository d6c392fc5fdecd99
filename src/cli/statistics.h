// The statistics of a sweep: spread of repeated measurements, and which points nothing beats.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "gpt2train/core/error.h"

namespace gpt2train {

// Quartiles, because one slow spell of the machine moves a mean and a maximum as far as it likes.
struct Spread {
  double lower_quartile = 0.0, median = 0.0, upper_quartile = 0.0;

  bool operator==(const Spread&) const = default;
};

// Linear between neighbours in order (type 7 of Hyndman and Fan 1996, the default of R and NumPy).
inline Spread spread_of(std::vector<double> values) {
  GPT2_CHECK(!values.empty(), "no values have no spread");
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {.lower_quartile = at(0.25), .median = at(0.5), .upper_quartile = at(0.75)};
}

struct Outcome {
  double cost = 0.0, gain = 0.0;
};

// Element i: nothing costs at most as much as i and gains at least as much, one of them strictly.
inline std::vector<bool> pareto_front(const std::vector<Outcome>& outcomes) {
  std::vector<bool> front;
  for (const Outcome& mine : outcomes) {
    front.push_back(std::none_of(outcomes.begin(), outcomes.end(), [&](const Outcome& other) {
      return other.cost <= mine.cost && other.gain >= mine.gain &&
             (other.cost < mine.cost || other.gain > mine.gain);
    }));
  }
  return front;
}

}  // namespace gpt2train
