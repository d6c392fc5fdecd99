// The shape of a GPT-2, with nanoGPT's names.
#pragma once

#include <cstdint>

#include "kernels/gelu.h"

namespace gpt2train {

struct ModelConfig {
  std::int64_t n_layer = 12;
  std::int64_t n_head = 12;
  std::int64_t n_embd = 768;        // C, a multiple of n_head
  std::int64_t block_size = 1024;   // T
  std::int64_t vocab_size = 50304;  // V: columns that count in the softmax
  bool bias = false;                // of linear layers and norms
  double dropout = 0.0;
  GeluForm gelu = GeluForm::kErf;

  bool operator==(const ModelConfig&) const = default;

  // Rows of the token table in storage: V rounded up to 128. The padding never enters the softmax.
  std::int64_t padded_vocab() const { return (vocab_size + 127) / 128 * 128; }
  std::int64_t head_size() const { return n_embd / n_head; }
};

// What the forward pass drops and the backward pass computes again, in order of memory saved.
enum class Recompute : std::uint8_t {
  kNone,
  kGelu,           // GELU's output
  kGeluLayerNorm,  // and both LayerNorms'
  kBlock,          // everything but each block's input
};
inline constexpr Recompute kRecomputeLevels[] = {Recompute::kNone, Recompute::kGelu,
                                                 Recompute::kGeluLayerNorm, Recompute::kBlock};
const char* name_of(Recompute level);  // "none", "gelu", "gelu+layernorm", "block"

// kBlock may be asked for the first `block_layers` blocks alone: the others drop what
// kGeluLayerNorm drops. Whichever they are, all that is kept is alive at the peak.
constexpr Recompute recompute_of(Recompute level, std::int64_t block_layers, std::int64_t layer) {
  return level == Recompute::kBlock && layer >= block_layers ? Recompute::kGeluLayerNorm : level;
}

// Whether logits exist for a chunk of rows at a time, or for the whole micro-batch, as in nanoGPT.
enum class Logits : std::uint8_t { kChunked, kFull };
const char* name_of(Logits mode);  // "chunked", "full"

// Of the model, without the padding of the vocabulary; the tied head counts once.
std::int64_t parameter_count(const ModelConfig& config);

// Training FLOPs a token as nanoGPT counts them (PaLM, appendix B): 6 N + 12 L C T, N without the
// position table.
double flops_per_token(const ModelConfig& config);

}  // namespace gpt2train
