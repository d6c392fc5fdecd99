#include "gpt2train/model/config.h"

namespace gpt2train {

const char* name_of(Recompute level) {
  switch (level) {
    case Recompute::kNone:
      return "none";
    case Recompute::kGelu:
      return "gelu";
    case Recompute::kGeluLayerNorm:
      return "gelu+layernorm";
    case Recompute::kBlock:
      return "block";
  }
  return "?";
}

const char* name_of(Logits mode) {
  return mode == Logits::kChunked ? "chunked" : "full";
}

std::int64_t parameter_count(const ModelConfig& config) {
  const std::int64_t C = config.n_embd;
  const std::int64_t biases = config.bias ? 3 * C + C + 4 * C + C + 2 * C : 0;
  const std::int64_t block = 12 * C * C + 2 * C + biases;
  return config.vocab_size * C + config.block_size * C + config.n_layer * block +
         (config.bias ? 2 : 1) * C;
}

double flops_per_token(const ModelConfig& config) {
  const auto matmul_parameters =
      static_cast<double>(parameter_count(config) - config.block_size * config.n_embd);
  const auto attention =
      static_cast<double>(12 * config.n_layer * config.n_embd * config.block_size);
  return 6.0 * matmul_parameters + attention;
}

}  // namespace gpt2train
