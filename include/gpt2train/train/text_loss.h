// The loss of a whole text, each of its tokens but the first predicted once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "gpt2train/train/inference.h"

namespace gpt2train {

struct TokenText {
  std::int64_t count = 0;
  std::function<void(std::int64_t first, std::span<std::int32_t> out)> read = {};
};

struct TextLoss {
  double sum = 0.0;
  std::int64_t tokens = 0;  // that were predicted

  double mean() const { return sum / static_cast<double>(tokens); }
};

// Windows of block_size tokens begin `stride` apart, the last one ends with the text, and a token
// counts in the first window that predicts it. With a stride of block_size windows do not overlap,
// as in llm.c: a window's first token is predicted from one token alone. Smaller strides give every
// token at least block_size - stride + 1 tokens to go by, as in Hugging Face's guide to perplexity,
// for a pass over each window. `rows` windows at a time; `text` has two tokens or more.
TextLoss text_loss(const InferenceModel& model, const TokenText& text, std::int64_t stride,
                   std::int64_t rows);

}  // namespace gpt2train
