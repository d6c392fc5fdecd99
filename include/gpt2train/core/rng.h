// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC11). A value depends on its address alone, so neither the split of a step into
// micro-batches nor the number of threads nor a resume changes it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gpt2train {

using Philox4 = std::array<std::uint32_t, 4>;

constexpr Philox4 philox(Philox4 counter, std::uint64_t seed) {
  std::uint32_t key0 = static_cast<std::uint32_t>(seed);
  std::uint32_t key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0,
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1,
               static_cast<std::uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// What a stream of random numbers is for; a part of the counter, so no two uses share numbers.
enum class RandomUse : std::uint32_t {
  kTrainSample = 1,
  kEvalSample = 2,
  kInit = 3,
  kSampling = 4,
  kSplit = 5,  // of documents
  kDropoutEmbedding = 8,
  kDropoutAttention = 9,
  kDropoutAttentionResidual = 10,
  kDropoutMlpResidual = 11,
  kRoundFirstMoment = 16,
  kRoundSecondMoment = 17,
  kRoundWeight = 18,
};

constexpr Philox4 random_counter(RandomUse use, std::uint64_t item, std::uint32_t layer,
                                 std::uint32_t index) {
  return {index, static_cast<std::uint32_t>(item), static_cast<std::uint32_t>(item >> 32),
          (layer << 8) | static_cast<std::uint32_t>(use)};
}

// Four random words for element group `index` of item `item` (a sample, a tensor, a token, an
// update) in `layer`. index < 2^32, item < 2^48, layer < 2^12.
constexpr Philox4 random_words(std::uint64_t seed, RandomUse use, std::uint64_t item,
                               std::uint32_t layer, std::uint32_t index) {
  return philox(random_counter(use, item, layer, index), seed);
}

// Half `which` of the eight in four words, low halves first: uniform in [0, 2^16).
constexpr std::uint32_t random_half(const Philox4& words, int which) {
  return words[static_cast<std::size_t>(which / 2)] >> (which % 2 * 16) & 0xFFFFu;
}

// Uniform in [0, 1) with 24 bits.
constexpr float unit_float(std::uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

// Uniform in [0, bound) by multiply-shift; bound < 2^63. The bias is below bound / 2^64.
constexpr std::uint64_t below(std::uint64_t word, std::uint64_t bound) {
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * bound) >> 64);
}

// Stochastic rounding of what an update of the optimizer stores in 16 or 8 bits: element e of the
// flat array that `use` names draws random_half(random_words(seed, use, update, 0, e / 8), e % 8).
struct Rounding {
  std::uint64_t seed = 0;
  std::uint64_t update = 0;

  constexpr Philox4 counter(RandomUse use, std::int64_t element) const {
    return random_counter(use, update, 0, static_cast<std::uint32_t>(element / 8));
  }
};

// Dropout of one site in one forward pass. Element e of sample s (its index over the whole run)
// is dropped when unit_float(random_words(seed, use, s, layer, e / 4)[e % 4]) < rate, and scaled by
// 1 / (1 - rate) otherwise. Elements count within the sample: t * C + c for (T, C) tensors,
// (h * T + query) * T + key for attention probabilities.
struct Dropout {
  float rate = 0.0f;  // 0 turns it off
  std::uint64_t seed = 0;
  std::uint64_t first_sample = 0;
  const std::uint64_t* more_samples = nullptr;  // on the device, so that a launch can be repeated
  std::uint32_t layer = 0;
  RandomUse use = RandomUse::kDropoutEmbedding;

  constexpr bool active() const { return rate > 0.0f; }
  // The run-wide index of row 0 of the micro-batch. Where kernels run.
  constexpr std::uint64_t row_0() const {
    return first_sample + (more_samples == nullptr ? 0 : *more_samples);
  }
};

}  // namespace gpt2train
