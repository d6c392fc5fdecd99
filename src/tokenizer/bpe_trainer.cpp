#include "gpt2train/tokenizer/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <unordered_set>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/scanner.h"
#include "gpt2train/tokenizer/unicode.h"

namespace gpt2train {
namespace {

using Pair = std::uint32_t;  // left token << 16 | right token

constexpr Pair pair_of(Token left, Token right) {
  return Pair{left} << 16 | right;
}

struct Word {
  std::vector<Token> tokens;
  std::int64_t count = 0;
};

struct Occurrences {
  std::int64_t count = 0;
  std::vector<std::uint32_t> words;  // where it is, or was; some of them twice
};

// A pair with the count it had when it was queued, which is never below the one it has.
struct Candidate {
  std::int64_t count = 0;
  Pair pair = 0;
  bool operator<(const Candidate& other) const {  // a queue gives the largest
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Trainer {
 public:
  explicit Trainer(const PieceCounts& pieces) : start_(make_vocabulary({})) {
    texts_ = start_.tokens;
    texts_.pop_back();  // <|endoftext|>
    known_.insert(texts_.begin(), texts_.end());
    for (const auto& [piece, count] : pieces.counts()) {
      Word word{.tokens = {}, .count = count};
      for (const char byte : piece)
        word.tokens.push_back(start_.byte_tokens[static_cast<unsigned char>(byte)]);
      words_.push_back(std::move(word));
      count_pairs(static_cast<std::uint32_t>(words_.size() - 1), +1);
    }
    for (const auto& [pair, found] : pairs_) queue_.push({found.count, pair});
  }

  // The next merge, or false where no pair is there twice.
  bool step() {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const std::int64_t count = pairs_[best.pair].count;
      if (count < 2) continue;
      if (count < best.count) {
        queue_.push({count, best.pair});
        continue;
      }
      const auto left = static_cast<Token>(best.pair >> 16);
      const auto right = static_cast<Token>(best.pair);
      if (!known_.insert(texts_[left] + texts_[right]).second) continue;
      apply({left, right, static_cast<Token>(texts_.size())});
      return true;
    }
    return false;
  }

  const std::vector<Merge>& merges() const { return merges_; }

 private:
  // Adds or takes away the pairs of a word; which word a pair is in is noted where `noted` says so.
  template <class Noted>
  void count_pairs(std::uint32_t index, int sign, Noted noted) {
    const Word& word = words_[index];
    for (std::size_t i = 0; i + 1 < word.tokens.size(); ++i) {
      const Pair pair = pair_of(word.tokens[i], word.tokens[i + 1]);
      Occurrences& found = pairs_[pair];
      found.count += sign * word.count;
      if (noted(word.tokens[i], word.tokens[i + 1])) found.words.push_back(index);
    }
  }
  void count_pairs(std::uint32_t index, int sign) {
    count_pairs(index, sign, [&](Token, Token) { return sign > 0; });
  }

  void apply(const Merge& merge) {
    merges_.push_back(merge);
    texts_.push_back(texts_[merge.left] + texts_[merge.right]);
    std::vector<std::uint32_t> places = std::move(pairs_[pair_of(merge.left, merge.right)].words);
    std::sort(places.begin(), places.end());
    places.erase(std::unique(places.begin(), places.end()), places.end());
    std::unordered_set<Pair> changed;
    for (const std::uint32_t index : places) {
      count_pairs(index, -1, [](Token, Token) { return false; });
      merge_word(words_[index].tokens, merge);
      count_pairs(index, +1, [&](Token left, Token right) {
        const bool is_new = left == merge.result || right == merge.result;
        if (is_new) changed.insert(pair_of(left, right));
        return is_new;
      });
    }
    for (const Pair pair : changed) queue_.push({pairs_[pair].count, pair});
  }

  static void merge_word(std::vector<Token>& tokens, const Merge& merge) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const bool merges =
          i + 1 < tokens.size() && tokens[i] == merge.left && tokens[i + 1] == merge.right;
      tokens[kept++] = merges ? merge.result : tokens[i];
      i += merges;
    }
    tokens.resize(kept);
  }

  Vocabulary start_;
  std::vector<std::string> texts_;  // of each token
  std::unordered_set<std::string> known_;
  std::vector<Word> words_;
  std::unordered_map<Pair, Occurrences> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Merge> merges_;
};

}  // namespace

void PieceCounts::add(std::string_view text) {
  std::string repaired;
  if (valid_utf8_prefix(text) != text.size()) text = repaired = replace_invalid_utf8(text);
  while (!text.empty()) {
    const std::size_t length = first_piece(text);
    ++counts_[std::string(text.substr(0, length))];
    text.remove_prefix(length);
  }
}

void PieceCounts::add(const PieceCounts& other) {
  for (const auto& [piece, count] : other.counts_) counts_[piece] += count;
}

Vocabulary train_bpe(const PieceCounts& pieces, std::int64_t vocab_size,
                     const std::function<void(std::int64_t)>& progress) {
  GPT2_CHECK(vocab_size > 256 && vocab_size <= kMostTokens, "a vocabulary of ", vocab_size);
  Trainer trainer(pieces);
  for (std::int64_t merges = 0; merges < vocab_size - 257 && trainer.step(); ++merges) {
    if (progress && merges % 256 == 0) progress(merges);
  }
  return make_vocabulary(trainer.merges());
}

}  // namespace gpt2train
