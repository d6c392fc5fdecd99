// What comes next in several texts that begin alike. Keys and values of the tokens read so far are
// kept, so a token costs a pass over itself. Past block_size nanoGPT crops the context to its last
// block_size tokens: every position shifts, and what was kept is worthless. As there, a token then
// costs a pass over the whole window, for one text after the other.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gpt2train/model/cache.h"
#include "gpt2train/model/parameters.h"
#include "gpt2train/train/inference.h"

namespace gpt2train {

enum class Caching : std::uint8_t { kKept, kRecomputed };

class Generator {
 public:
  // `texts` at once, none of which is asked about more than `most_tokens`. Takes the memory for
  // keys and values; what `model` refers to outlives this.
  Generator(const InferenceModel& model, std::int64_t texts, std::int64_t most_tokens,
            Caching caching = Caching::kKept);

  // Every text begins with `prompt`, which is not empty.
  void start(std::span<const std::int32_t> prompt);
  // One token for each text, in order.
  void append(std::span<const std::int32_t> tokens);

  // For the token after those so far: vocab_size of them, valid until the next call. Not set in a
  // dry run.
  std::span<const float> logits(std::int64_t text) const;

 private:
  KeyValueCache cache_of(std::int64_t texts) const;
  void share_prompt() const;
  void drop_cache();
  void read_windows(std::int64_t texts);
  // A pass over (rows, T) tokens; row_0, where given, is the first text whose logits are kept.
  void pass(std::span<const std::int32_t> tokens, std::int64_t rows, const KeyValueCache* cache,
            std::optional<std::int64_t> row_0);

  const InferenceModel model_;
  const std::int64_t texts_;
  std::int64_t capacity_;      // tokens of a text that the cache can hold; 0: there is none
  std::int64_t position_ = 0;  // that it holds
  Tensor keys_, values_;       // (L, texts, capacity, C)
  std::vector<std::vector<std::int32_t>> tokens_;  // of each text
  std::vector<float> logits_;                      // (texts, padded vocabulary)
  bool alike_ = false;                             // only the first text's logits are there
};

}  // namespace gpt2train
