// Batches by sample index. A sample's window is a function of (seed, split, index) alone, drawn
// uniformly as nanoGPT draws its offsets, so neither the split of a step into micro-batches nor a
// resume changes what is trained on.
#pragma once

#include <cstdint>
#include <vector>

#include "gpt2train/core/rng.h"
#include "gpt2train/data/tokens.h"

namespace gpt2train {

struct Batch {
  std::int64_t rows = 0;              // B
  std::int64_t time = 0;              // T
  std::vector<std::int32_t> inputs;   // (B, T)
  std::vector<std::int32_t> targets;  // (B, T): inputs shifted by one
};

class Loader {
 public:
  // Throws DataError when no file holds block_size + 1 tokens. `use` keeps training and evaluation
  // samples apart.
  Loader(const TokenSource& source, std::string name, std::int64_t block_size, std::uint64_t seed,
         RandomUse use);

  // Samples [first, first + rows), counted over the whole run, into (rows, block_size) arrays.
  void read(std::uint64_t first_sample, std::int64_t rows, std::int32_t* inputs,
            std::int32_t* targets) const;
  // The same; reuses the batch's memory.
  void read(std::uint64_t first_sample, std::int64_t rows, Batch& batch) const;

 private:
  const TokenSource& source_;
  std::int64_t block_size_;
  std::int64_t window_count_;
  std::uint64_t seed_;
  RandomUse use_;
};

}  // namespace gpt2train
