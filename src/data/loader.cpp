#include "gpt2train/data/loader.h"

#include <algorithm>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"

namespace gpt2train {

Loader::Loader(const TokenSource& source, std::string name, std::int64_t block_size,
               std::uint64_t seed, RandomUse use)
    : source_(source),
      block_size_(block_size),
      window_count_(source.window_count(block_size + 1)),
      seed_(seed),
      use_(use) {
  if (window_count_ == 0) {
    throw DataError(name,
                    concat(with_commas(source.token_count()), " tokens in ", source.file_count(),
                           " files, expected at least ", with_commas(block_size + 1),
                           " in one file (block_size and the last target)"));
  }
}

void Loader::read(std::uint64_t first_sample, std::int64_t rows, std::int32_t* inputs,
                  std::int32_t* targets) const {
  std::vector<std::int32_t> window(static_cast<std::size_t>(block_size_) + 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    const Philox4 words =
        random_words(seed_, use_, first_sample + static_cast<std::uint64_t>(row), 0, 0);
    const std::uint64_t word = words[0] | std::uint64_t{words[1]} << 32;
    const std::uint64_t place = below(word, static_cast<std::uint64_t>(window_count_));
    source_.read_window(static_cast<std::int64_t>(place), window);
    std::copy(window.begin(), window.end() - 1, inputs + row * block_size_);
    std::copy(window.begin() + 1, window.end(), targets + row * block_size_);
  }
}

void Loader::read(std::uint64_t first_sample, std::int64_t rows, Batch& batch) const {
  GPT2_CHECK(rows >= 0, "a batch of ", rows, " rows");
  batch.rows = rows;
  batch.time = block_size_;
  batch.inputs.resize(static_cast<std::size_t>(rows * block_size_));
  batch.targets.resize(batch.inputs.size());
  read(first_sample, rows, batch.inputs.data(), batch.targets.data());
}

}  // namespace gpt2train
