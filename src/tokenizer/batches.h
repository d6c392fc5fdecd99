// A corpus worked on by several threads, batch by batch; what comes of them is taken in the order
// of the corpus.
#pragma once

#include <exception>
#include <functional>
#include <vector>

#include "gpt2train/tokenizer/corpus.h"
#include "gpt2train/tokenizer/tokenizer.h"

namespace gpt2train {

// Some fragments, and what a thread made of them.
struct FragmentBatch {
  std::vector<Fragment> fragments;
  std::uint64_t bytes_read = 0;  // of the corpus so far
  std::vector<Token> train;
  std::vector<Token> val;
  std::exception_ptr error;
};

// `work(thread, batch)` runs on any thread, and so does `take(batch)`, one at a time; few batches
// wait for their turn. The first error of the corpus's order is thrown, after what precedes it was
// taken.
void for_each_batch(Corpus& corpus, int threads,
                    const std::function<void(int, FragmentBatch&)>& work,
                    const std::function<void(FragmentBatch&)>& take);

}  // namespace gpt2train
