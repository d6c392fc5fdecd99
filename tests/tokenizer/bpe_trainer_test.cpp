#include "gpt2train/tokenizer/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "gpt2train/tokenizer/bpe.h"
#include "gpt2train/tokenizer/scanner.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using Tokens = std::vector<Token>;

std::string random_words(std::uint32_t seed, int count) {
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += ' ';
    const std::size_t length = 1 + random() % 7;
    for (std::size_t j = 0; j < length; ++j) text += "aaabbcd"[random() % 7];
  }
  return text;
}

PieceCounts counts_of(std::string_view text) {
  PieceCounts counts;
  counts.add(text);
  return counts;
}

// From the definition: count all pairs of the whole text anew for every merge.
std::vector<Merge> train_slowly(std::string_view text, std::size_t merge_count) {
  const Vocabulary bytes = make_vocabulary({});
  std::vector<std::string> texts(bytes.tokens.begin(), bytes.tokens.end() - 1);
  std::vector<Tokens> pieces;
  while (!text.empty()) {
    const std::size_t length = first_piece(text);
    pieces.emplace_back();
    for (const char byte : text.substr(0, length)) {
      pieces.back().push_back(bytes.byte_tokens[static_cast<unsigned char>(byte)]);
    }
    text.remove_prefix(length);
  }
  std::vector<Merge> merges;
  while (merges.size() < merge_count) {
    std::map<std::pair<Token, Token>, int> counts;
    for (const Tokens& piece : pieces) {
      for (std::size_t i = 0; i + 1 < piece.size(); ++i) ++counts[{piece[i], piece[i + 1]}];
    }
    int most = 1;
    std::pair<Token, Token> best;
    const std::set<std::string> known(texts.begin(), texts.end());
    for (const auto& [pair, count] : counts) {  // in the order of numbers
      if (count > most && !known.contains(texts[pair.first] + texts[pair.second])) {
        most = count;
        best = pair;
      }
    }
    if (most == 1) break;
    merges.push_back({best.first, best.second, static_cast<Token>(texts.size())});
    texts.push_back(texts[best.first] + texts[best.second]);
    for (Tokens& piece : pieces) {
      for (std::size_t i = 0; i + 1 < piece.size(); ++i) {
        if (piece[i] != best.first || piece[i + 1] != best.second) continue;
        piece[i] = merges.back().result;
        piece.erase(piece.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

std::vector<std::string> words_of(const std::vector<Merge>& merges) {
  const Vocabulary vocabulary = make_vocabulary(merges);
  std::vector<std::string> words;
  for (const Merge& merge : merges) {
    words.push_back(vocabulary.tokens[merge.left] + '|' + vocabulary.tokens[merge.right]);
  }
  return words;
}

TEST(BpeTrainer, MergesTheMostFrequentPairFirst) {
  const Vocabulary vocabulary = train_bpe(counts_of("low low low lower newest newest"), 262);
  EXPECT_EQ(words_of(vocabulary.merges),
            (std::vector<std::string>{"l|o", "lo|w", " |low", "e|s", "e|w"}));
}

TEST(BpeTrainer, AgreesWithCountingAnew) {
  for (const std::uint32_t seed : {1u, 2u, 3u}) {
    const std::string text = random_words(seed, 300);
    const Vocabulary vocabulary = train_bpe(counts_of(text), 257 + 120);
    EXPECT_EQ(words_of(vocabulary.merges), words_of(train_slowly(text, 120)));
  }
}

TEST(BpeTrainer, StopsWhereNoPairIsThereTwice) {
  const Vocabulary vocabulary = train_bpe(counts_of(random_words(4, 40)), 5000);
  EXPECT_EQ(words_of(vocabulary.merges), words_of(train_slowly(random_words(4, 40), 5000)));
  EXPECT_LT(vocabulary.tokens.size(), 400u);
}

TEST(BpeTrainer, DoesNotDependOnTheOrderOfTexts) {
  PieceCounts forward = counts_of(random_words(5, 200));
  forward.add(random_words(6, 200));
  PieceCounts backward = counts_of(random_words(6, 200));
  backward.add(counts_of(random_words(5, 200)));
  EXPECT_EQ(words_of(train_bpe(forward, 400).merges), words_of(train_bpe(backward, 400).merges));
}

TEST(BpeTrainer, ItsVocabularyEncodesAndReadsBack) {
  const std::string text = random_words(7, 400);
  const Vocabulary vocabulary = train_bpe(counts_of(text), 350);
  const test::TempDir dir;
  save_vocabulary(vocabulary, dir.path());
  const auto tokenizer = load_tokenizer(dir.path());
  EXPECT_EQ(tokenizer->vocab_size(), 350);
  EXPECT_EQ(tokenizer->end_of_text(), Token{349});
  Tokens tokens;
  tokenizer->make_encoder()->encode(text, SpecialTokens::kAsText, tokens);
  EXPECT_LT(tokens.size() * 2, text.size());
  std::string back;
  for (const Token token : tokens) back += tokenizer->bytes_of(token);
  EXPECT_EQ(back, text);
}

}  // namespace
}  // namespace gpt2train
