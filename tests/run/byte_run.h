// A run of a few steps of a tiny model on bytes, in a directory that goes with it.
#pragma once

#include <fstream>
#include <string>

#include "gpt2train/run/run.h"
#include "tests/support/temp_dir.h"

namespace gpt2train::test {

struct ByteRun {
  ByteRun() {
    std::ofstream text(dir.path() + "/text.txt");
    for (int i = 0; i < 100; ++i) text << "to be, or not to be: ";
  }

  TempDir dir;
  RunConfig config = load_settings(
      "", {"out_dir=" + dir.path() + "/out", "device=cpu", "dtype=float32",
           "data.train=" + dir.path() + "/text.txt", "data.val=" + dir.path() + "/text.txt",
           "n_layer=1", "n_head=2", "n_embd=16", "block_size=16", "vocab_size=256", "batch_size=4",
           "gradient_accumulation_steps=1", "max_iters=4", "eval_interval=100", "eval_iters=1"});
};

}  // namespace gpt2train::test
