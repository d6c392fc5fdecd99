#include "gpt2train/tokenizer/tokenize.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/rng.h"
#include "src/tokenizer/batches.h"
#include "src/tokenizer/files.h"
#include "src/tokenizer/token_writer.h"

namespace gpt2train {
namespace {

using Json = nlohmann::json;

// ---- what a run is, and how far it is -----------------------------------------------------------

std::uint64_t fingerprint_of(const Tokenizer& tokenizer) {
  std::uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  const auto add = [&](char byte) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
  };
  for (std::int64_t token = 0; token < tokenizer.vocab_size(); ++token) {
    for (const char byte : tokenizer.bytes_of(static_cast<Token>(token))) add(byte);
    add('\0');
  }
  return hash;
}

// All that the tokens depend on.
Json describe(const TokenizeOptions& options, const Tokenizer& tokenizer) {
  Json files = Json::array();
  for (const std::string& path : options.corpus.files) {
    struct stat found {};
    if (stat(path.c_str(), &found) != 0) fail_file(path, "read");
    files.push_back({path, found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec});
  }
  const CorpusOptions& corpus = options.corpus;
  const SplitOptions& split = options.split;
  return {{"files", files},
          {"corpus",
           {corpus.format, corpus.field, corpus.delimiter, corpus.keep_delimiter,
            corpus.whole_documents}},
          {"tokens", {options.llmc, options.shard_tokens, options.end_of_text}},
          {"split", {split.rule, split.fraction, split.tokens, split.seed}},
          {"vocabulary", fingerprint_of(tokenizer)}};
}

struct State {
  std::uint64_t fragments = 0;
  std::uint64_t documents = 0;
  std::uint64_t train_tokens = 0;
  std::uint64_t val_tokens = 0;
  bool complete = false;  // all that is left is to rename
};

class ProgressFile {
 public:
  ProgressFile(std::string path, Json run) : path_(std::move(path)), run_(std::move(run)) {}

  // Where an earlier run of the same kind was; the beginning, where there was none.
  State read() const {
    if (!exists(path_)) return {};
    try {
      const Json json = Json::parse(read_small_file(path_));
      if (json.at("run") == run_) {
        return {json.at("fragments"), json.at("documents"), json.at("train_tokens"),
                json.at("val_tokens"), json.at("complete")};
      }
    } catch (const Json::exception& error) {
      throw DataError(path_, error.what());
    }
    throw DataError(
        path_, "is of a run with other files, settings or vocabulary; to begin anew, remove it");
  }
  void write(const State& state) const {
    const Json json = {{"run", run_},
                       {"fragments", state.fragments},
                       {"documents", state.documents},
                       {"train_tokens", state.train_tokens},
                       {"val_tokens", state.val_tokens},
                       {"complete", state.complete}};
    write_small_file(path_, json.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n");
  }
  void remove() const { std::remove(path_.c_str()); }

 private:
  std::string path_;
  Json run_;
};

// ---- one batch ----------------------------------------------------------------------------------

// Where the last `fraction` of the characters begins; a character is counted by its first byte.
std::size_t tail_of(std::string_view text, double fraction) {
  const auto begins = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; };
  const auto count = static_cast<double>(std::count_if(text.begin(), text.end(), begins));
  auto left = static_cast<std::int64_t>(count * (1.0 - fraction));
  std::size_t at = 0;
  while (at < text.size() && (left > 0 || !begins(text[at]))) left -= begins(text[at++]);
  return at;
}

class BatchEncoder {
 public:
  BatchEncoder(const TokenizeOptions& options, const Tokenizer& tokenizer)
      : options_(options), end_(tokenizer.end_of_text()) {
    for (int i = 0; i < options.threads; ++i) encoders_.push_back(tokenizer.make_encoder());
  }

  void encode(const Corpus& corpus, int thread, FragmentBatch& batch) {
    Encoder& encoder = *encoders_[static_cast<std::size_t>(thread)];
    for (Fragment& fragment : batch.fragments) {
      const bool first = fragment.first && options_.end_of_text == EndOfText::kBefore;
      const bool last = fragment.last && options_.end_of_text == EndOfText::kAfter;
      const auto document = fragment.document;
      const std::string* path = fragment.path;
      const std::string text = corpus.text_of(std::move(fragment));
      const auto put = [&](std::string_view part, std::vector<Token>& tokens) {
        if (first) tokens.push_back(*end_);
        try {
          encoder.encode(part, SpecialTokens::kAsText, tokens);
        } catch (const DataError& error) {
          throw DataError(*path, concat("document ", document, ": ", error.what()));
        }
        if (last) tokens.push_back(*end_);
      };
      const SplitOptions& split = options_.split;
      if (split.rule == SplitRule::kTail) {
        const std::size_t tail = tail_of(text, split.fraction);
        put(std::string_view(text).substr(0, tail), batch.train);
        put(std::string_view(text).substr(tail), batch.val);
      } else {
        put(text, is_validation(document) ? batch.val : batch.train);
      }
    }
  }

 private:
  bool is_validation(std::uint64_t document) const {
    if (options_.split.rule != SplitRule::kFraction) return false;
    const std::uint32_t word =
        random_words(options_.split.seed, RandomUse::kSplit, document, 0, 0)[0];
    return static_cast<double>(unit_float(word)) < options_.split.fraction;
  }

  const TokenizeOptions& options_;
  std::optional<Token> end_;
  std::vector<std::unique_ptr<Encoder>> encoders_;
};

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

TokenizeProgress tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer,
                          const std::function<void(const TokenizeProgress&)>& report) {
  GPT2_CHECK(options.end_of_text == EndOfText::kNone || tokenizer.end_of_text(),
             "the tokenizer has no token between documents");
  GPT2_CHECK(options.split.rule != SplitRule::kTail || options.corpus.whole_documents,
             "the tail of a document needs all of it");
  make_directories(options.out);
  const TokenFiles train{options.out, "train", options.llmc, options.shard_tokens};
  const TokenFiles val{options.out, "val", options.llmc, options.shard_tokens};

  // What standard input holds now need not be what it held before.
  const auto& names = options.corpus.files;
  const bool resumable = std::find(names.begin(), names.end(), "-") == names.end();
  const ProgressFile file(options.out + "/tokenize.progress",
                          resumable ? describe(options, tokenizer) : Json("standard input"));
  State state = resumable ? file.read() : State{};
  if (!state.complete) {
    for (const TokenFiles& files : {train, val}) {
      if (exists(files.path(0)))
        throw DataError(files.path(0), "is there already, and is not written over");
    }
  }

  Corpus corpus(options.corpus);
  TokenizeProgress progress{.total_bytes = corpus.total_bytes()};
  const auto tell = [&](std::uint64_t bytes_read, bool skipping) {
    progress.bytes_read = bytes_read;
    progress.documents = state.documents;
    progress.train_tokens = state.train_tokens;
    progress.val_tokens = state.val_tokens;
    progress.skipping = skipping;
    if (report) report(progress);
  };
  if (!state.complete) {
    Fragment skipped;
    for (std::uint64_t i = 0; i < state.fragments; ++i) {
      if (!corpus.next(skipped)) throw DataError(options.out, "the corpus is shorter than it was");
      if (i % 1024 == 0) tell(corpus.bytes_read(), true);
    }
    TokenWriter train_writer(train, state.train_tokens);
    TokenWriter val_writer(val, state.val_tokens);
    BatchEncoder encoder(options, tokenizer);
    const auto make_safe = [&](bool complete) {
      train_writer.sync();
      val_writer.sync();
      state.complete = complete;
      if (resumable || complete) file.write(state);
    };
    Stopwatch since_safe;
    for_each_batch(
        corpus, options.threads,
        [&](int thread, FragmentBatch& batch) { encoder.encode(corpus, thread, batch); },
        [&](FragmentBatch& batch) {
          std::span<const Token> tokens = batch.train;
          if (options.split.rule == SplitRule::kFirst && state.val_tokens < options.split.tokens) {
            const auto room = static_cast<std::size_t>(
                std::min<std::uint64_t>(options.split.tokens - state.val_tokens, tokens.size()));
            val_writer.write(tokens.first(room));
            tokens = tokens.subspan(room);
          }
          train_writer.write(tokens);
          val_writer.write(batch.val);
          for (const Fragment& fragment : batch.fragments) state.documents += fragment.last;
          state.fragments += batch.fragments.size();
          state.train_tokens = train_writer.tokens();
          state.val_tokens = val_writer.tokens();
          if (since_safe.seconds() >= options.sync_seconds) {
            make_safe(false);
            since_safe = {};
          }
          tell(batch.bytes_read, false);
        });
    for (const auto& [name, text] : options.beside) {
      write_small_file(options.out + "/" + name, text);
    }
    make_safe(true);
  }
  publish(train, state.train_tokens);
  publish(val, state.val_tokens);
  file.remove();
  tell(corpus.total_bytes(), false);
  return progress;
}

void for_each_text(const CorpusOptions& options, int threads,
                   const std::function<void(int, std::string_view)>& use) {
  Corpus corpus(options);
  for_each_batch(
      corpus, threads,
      [&](int thread, FragmentBatch& batch) {
        for (Fragment& fragment : batch.fragments) use(thread, corpus.text_of(std::move(fragment)));
      },
      [](FragmentBatch&) {});
}

}  // namespace gpt2train
