#include "gpt2train/run/draw.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "gpt2train/core/rng.h"

namespace gpt2train {
namespace {

// Weights below the k-th largest become 0.
void keep_top_k(std::vector<double>& weights, std::int64_t k) {
  if (k <= 0 || k >= std::ssize(weights)) return;
  std::vector<double> sorted = weights;
  const auto nth = sorted.begin() + (k - 1);
  std::nth_element(sorted.begin(), nth, sorted.end(), std::greater<>());
  for (double& weight : weights) {
    if (weight < *nth) weight = 0.0;
  }
}

// Weights past the likeliest that have `share` of the sum become 0.
void keep_top_p(std::vector<double>& weights, double share) {
  if (share >= 1.0) return;
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return weights[a] > weights[b]; });
  const double enough = share * std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0.0;
  for (const std::size_t token : order) {
    if (sum >= enough && sum > 0.0) weights[token] = 0.0;
    sum += weights[token];
  }
}

}  // namespace

std::int32_t draw_token(std::span<const float> logits, const DrawSettings& settings,
                        std::int64_t sample, std::int64_t index) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (settings.temperature == 0.0) return static_cast<std::int32_t>(largest - logits.begin());
  std::vector<double> weights(logits.size());
  std::transform(logits.begin(), logits.end(), weights.begin(), [&](float logit) {
    return std::exp((double{logit} - double{*largest}) / settings.temperature);
  });
  keep_top_k(weights, settings.top_k);
  keep_top_p(weights, settings.top_p);

  std::partial_sum(weights.begin(), weights.end(), weights.begin());
  const Philox4 words =
      random_words(settings.seed, RandomUse::kSampling, static_cast<std::uint64_t>(sample), 0,
                   static_cast<std::uint32_t>(index));
  const double point = double{unit_float(words[0])} * weights.back();
  const auto at = std::upper_bound(weights.begin(), weights.end(), point);
  return static_cast<std::int32_t>(std::min(at - weights.begin(), std::ssize(weights) - 1));
}

}  // namespace gpt2train
