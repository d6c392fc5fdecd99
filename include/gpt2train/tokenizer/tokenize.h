// Text to token files, on all cores and in constant memory; goes on where it was killed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gpt2train/tokenizer/corpus.h"
#include "gpt2train/tokenizer/tokenizer.h"

namespace gpt2train {

enum class EndOfText : std::uint8_t { kNone, kBefore, kAfter };  // where each document has one

// What goes to the validation split.
enum class SplitRule : std::uint8_t {
  kFraction,  // documents at random: document d when unit_float(random_words(seed, kSplit, d, 0,
              // 0)[0]) is below `fraction`; neither order of work nor threads matter
  kTail,      // of each document the characters from floor(count * (1 - fraction)) on
  kFirst,     // the first `tokens` tokens
};

struct SplitOptions {
  SplitRule rule = SplitRule::kFraction;
  double fraction = 0.0005;
  std::uint64_t tokens = 0;
  std::uint64_t seed = 2357;
};

struct TokenizeOptions {
  CorpusOptions corpus;
  // What goes beside the tokens: names in OUT, and texts.
  std::vector<std::pair<std::string, std::string>> beside = {};
  std::string out;    // directory
  bool llmc = false;  // shards of llm.c, else nanoGPT's train.bin and val.bin
  std::uint64_t shard_tokens = 100'000'000;  // below 2^31
  EndOfText end_of_text = EndOfText::kAfter;
  SplitOptions split;
  int threads = 1;
  double sync_seconds = 5.0;  // between which tokens are made safe: what a kill may lose
};

struct TokenizeProgress {
  std::uint64_t bytes_read = 0;   // as the files are on disk
  std::uint64_t total_bytes = 0;  // 0: not known
  std::uint64_t documents = 0;
  std::uint64_t train_tokens = 0;
  std::uint64_t val_tokens = 0;
  bool skipping = false;  // over what an earlier run has done
};

// Writes OUT/train.bin and OUT/val.bin, or OUT/train_000000.bin and so on, all of them or none:
// until the end they are named .tmp. OUT/tokenize.progress says how far they are good; the same
// command goes on from there, unless it reads standard input. Throws DataError, also where one of
// the files is there.
TokenizeProgress tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer,
                          const std::function<void(const TokenizeProgress&)>& report);

// Calls `use(thread, text)` for each fragment of the corpus, on several threads at once.
void for_each_text(const CorpusOptions& options, int threads,
                   const std::function<void(int, std::string_view)>& use);

}  // namespace gpt2train
