// The next token from a model's logits.
#pragma once

#include <cstdint>
#include <span>

namespace gpt2train {

struct DrawSettings {
  double temperature = 0.8;  // divides the logits; 0 takes the largest
  std::int64_t top_k = 200;  // only the k largest, and those equal to the k-th; 0: all
  // Of these the likeliest that together have this share of the probability (Holtzman et al. 2019,
  // "The Curious Case of Neural Text Degeneration"), the one that reaches it included; 1: all.
  double top_p = 1.0;
  std::uint64_t seed = 1337;
};

// Token `index` of the new ones of `sample`. The random number depends on these and the seed alone.
std::int32_t draw_token(std::span<const float> logits, const DrawSettings& settings,
                        std::int64_t sample, std::int64_t index);

}  // namespace gpt2train
