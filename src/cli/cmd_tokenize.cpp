// `tokenize`: text to token files; `tokenizer train`: text to a vocabulary.
#include <fmt/format.h>
#include <omp.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/tokenizer/bpe_trainer.h"
#include "gpt2train/tokenizer/meta.h"
#include "gpt2train/tokenizer/tokenize.h"
#include "src/cli/commands.h"
#include "src/cli/options.h"
#include "src/cli/terminal.h"

namespace gpt2train {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string vocab;
  std::string tokenizer = "gpt2";
  std::string input = "auto";
  std::string format = "nanogpt";
  std::string end_of_text = "auto";
  std::string delimiter;
  double val_tail = 0.0;
  std::int64_t vocab_size = 50257;
  CLI::Option* val_fraction_given = nullptr;
  CLI::Option* val_tail_given = nullptr;
  CLI::Option* val_tokens_given = nullptr;
  TokenizeOptions run;
};

class TokenizeStatus {
 public:
  void show(const TokenizeProgress& progress) {
    if (progress.skipping) bytes_before_ = progress.bytes_read;
    if (!line_.due()) return;
    std::string text =
        fmt::format("{} {}", progress.skipping ? "skipping what is done:" : "tokenizing:",
                    human_bytes(progress.bytes_read));
    if (progress.total_bytes > 0) {
      text += fmt::format(" of {} ({:.1f}%)", human_bytes(progress.total_bytes),
                          100.0 * static_cast<double>(progress.bytes_read) /
                              static_cast<double>(progress.total_bytes));
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const double speed = static_cast<double>(progress.bytes_read - bytes_before_) / seconds;
    if (!progress.skipping) {
      text += fmt::format(
          ", {} tokens, {:.1f} MB/s",
          human_count(static_cast<std::int64_t>(progress.train_tokens + progress.val_tokens)),
          speed / 1e6);
      if (progress.total_bytes > progress.bytes_read && speed > 0.0) {
        text +=
            ", " +
            human_seconds(static_cast<double>(progress.total_bytes - progress.bytes_read) / speed) +
            " left";
      }
    }
    line_.draw(text);
  }

 private:
  StatusLine line_;
  std::uint64_t bytes_before_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// "\n", "\t", "\r", "\0" and "\\" as people write them on a command line.
std::string unescape(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      result += text[i];
      continue;
    }
    switch (text[++i]) {
      case 'n':
        result += '\n';
        break;
      case 't':
        result += '\t';
        break;
      case 'r':
        result += '\r';
        break;
      case '0':
        result += '\0';
        break;
      case '\\':
        result += '\\';
        break;
      default:
        throw ConfigError("--delimiter", concat("unknown escape \\", text[i]));
    }
  }
  return result;
}

CorpusOptions corpus_of(const Options& options) {
  static const std::map<std::string, CorpusFormat> formats = {{"auto", CorpusFormat::kAuto},
                                                              {"text", CorpusFormat::kText},
                                                              {"jsonl", CorpusFormat::kJsonl},
                                                              {"parquet", CorpusFormat::kParquet}};
  CorpusOptions corpus = options.run.corpus;
  corpus.files = expand_globs(options.files);
  corpus.format = formats.at(options.input);
  corpus.delimiter = unescape(options.delimiter);
  return corpus;
}

std::unique_ptr<Tokenizer> make_tokenizer(const Options& options, TokenizeOptions& run) {
  if (!options.vocab.empty()) return load_tokenizer(options.vocab);
  if (options.tokenizer == "gpt2") {
    throw ConfigError("--vocab", "names GPT-2's vocabulary, which scripts/fetch_vocab.sh fetches");
  }
  if (options.tokenizer == "bytes") {
    run.beside = {{"meta.json", byte_meta()}};
    return make_byte_tokenizer();
  }
  for (const std::string& name : run.corpus.files) {
    if (name == "-") {
      throw ConfigError(
          "--tokenizer",
          "char reads its texts twice, which standard input cannot: give --vocab or files");
    }
  }
  std::vector<CharacterSet> sets(static_cast<std::size_t>(run.threads));
  for_each_text(run.corpus, run.threads, [&](int thread, std::string_view text) {
    sets[static_cast<std::size_t>(thread)].add(text);
  });
  for (const CharacterSet& set : sets) sets.front().add(set);
  const std::u32string characters = sets.front().sorted();
  std::unique_ptr<Tokenizer> tokenizer =
      make_character_tokenizer(characters, run.out + "/meta.json");
  run.beside = {{"meta.json", character_meta(characters)},
                {"meta.pkl", character_pickle(characters)}};
  return tokenizer;
}

void tokenize_files(const Options& options) {
  TokenizeOptions run = options.run;
  run.corpus = corpus_of(options);
  run.llmc = options.format == "llmc";
  if (options.val_tail_given->count() > 0) {
    run.split.rule = SplitRule::kTail;
    run.split.fraction = options.val_tail;
    run.corpus.whole_documents = true;
  } else if (options.val_tokens_given->count() > 0) {
    run.split.rule = SplitRule::kFirst;
  }
  const auto tokenizer = make_tokenizer(options, run);
  static const std::map<std::string, EndOfText> places = {
      {"none", EndOfText::kNone}, {"before", EndOfText::kBefore}, {"after", EndOfText::kAfter}};
  if (options.end_of_text != "auto") {
    run.end_of_text = places.at(options.end_of_text);
  } else {
    run.end_of_text = !tokenizer->end_of_text() ? EndOfText::kNone
                      : run.llmc                ? EndOfText::kBefore
                                                : EndOfText::kAfter;
  }
  if (run.end_of_text != EndOfText::kNone && !tokenizer->end_of_text()) {
    throw ConfigError("--eot", "this vocabulary has no token between documents: give none");
  }
  TokenizeProgress done;
  {
    TokenizeStatus status;
    done =
        tokenize(run, *tokenizer, [&](const TokenizeProgress& progress) { status.show(progress); });
  }
  const auto commas = [](std::uint64_t count) {
    return with_commas(static_cast<std::int64_t>(count));
  };
  fmt::print("{}: {} documents, {} tokens for training, {} for validation, vocabulary {}\n",
             run.out, commas(done.documents), commas(done.train_tokens), commas(done.val_tokens),
             tokenizer->vocab_size());
}

void train_tokenizer(const Options& options) {
  const CorpusOptions corpus = corpus_of(options);
  StatusLine status;
  if (status.due()) status.draw("counting pieces");
  std::vector<PieceCounts> counts(static_cast<std::size_t>(options.run.threads));
  for_each_text(corpus, options.run.threads, [&](int thread, std::string_view text) {
    counts[static_cast<std::size_t>(thread)].add(text);
  });
  for (std::size_t i = 1; i < counts.size(); ++i) counts.front().add(std::exchange(counts[i], {}));
  const Vocabulary vocabulary =
      train_bpe(counts.front(), options.vocab_size, [&](std::int64_t merges) {
        if (status.due())
          status.draw(fmt::format("{} of {} merges", merges, options.vocab_size - 257));
      });
  save_vocabulary(vocabulary, options.run.out);
  const auto size = std::ssize(vocabulary.tokens);
  fmt::print("{}: vocab.bpe and encoder.json of {} tokens{}\n", options.run.out, size,
             size < options.vocab_size ? ", as no more pairs are there twice" : "");
}

void add_corpus_options(CLI::App& app, Options& options) {
  CorpusOptions& corpus = options.run.corpus;
  app.add_option("files", options.files,
                 "texts: files, globs, or - for standard input; .gz and .zst are unpacked")
      ->required();
  app.add_option("--out", options.run.out, "directory to write to")->required();
  app.add_option("--input", options.input, "what the files are; auto: by name")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "text", "jsonl", "parquet"}));
  app.add_option("--field", corpus.field,
                 "of JSON lines, or column of Parquet: which one is the text")
      ->capture_default_str();
  app.add_option("--delimiter", options.delimiter,
                 "between documents of a text, such as '\\n\\n'; without it, a file is a document");
  app.add_flag("--keep_delimiter", corpus.keep_delimiter, "as part of the document before it");
  app.add_option("--threads", options.run.threads, "of work; reading has one of its own")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  add_quiet(app);
}

}  // namespace

Command add_tokenize(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  TokenizeOptions& run = options->run;
  run.threads = omp_get_max_threads();
  add_corpus_options(app, *options);
  app.add_option("--vocab", options->vocab,
                 "directory of vocab.bpe, tokenizer.json, meta.json or meta.pkl");
  app.add_option("--tokenizer", options->tokenizer,
                 "without --vocab: of characters (nanoGPT's char) or bytes")
      ->capture_default_str()
      ->check(CLI::IsMember({"gpt2", "char", "bytes"}));
  app.add_option("--format", options->format,
                 "nanogpt: train.bin, val.bin; llmc: shards with a header")
      ->capture_default_str()
      ->check(CLI::IsMember({"nanogpt", "llmc"}));
  app.add_option("--shard_tokens", run.shard_tokens, "of llm.c's shards")
      ->capture_default_str()
      ->check(CLI::Range(1, 2147483647));
  app.add_option("--eot", options->end_of_text,
                 "where a document has <|endoftext|>; auto: after, llmc before")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "none", "before", "after"}));
  options->val_fraction_given =
      app.add_option("--val_fraction", run.split.fraction, "documents for validation, at random")
          ->capture_default_str()
          ->check(CLI::Range(0.0, 1.0));
  options->val_tail_given =
      app.add_option("--val_tail", options->val_tail, "or this last part of each document")
          ->check(CLI::Range(0.0, 1.0))
          ->excludes(options->val_fraction_given);
  options->val_tokens_given =
      app.add_option("--val_tokens", run.split.tokens, "or this many tokens from the beginning")
          ->excludes(options->val_fraction_given)
          ->excludes(options->val_tail_given);
  app.add_option("--seed", run.split.seed, "of --val_fraction")->capture_default_str();
  return [options] { tokenize_files(*options); };
}

Command add_tokenizer(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  options->run.threads = omp_get_max_threads();
  app.require_subcommand(1);
  CLI::App* train =
      app.add_subcommand("train", "merges of one's own texts, as vocab.bpe and encoder.json");
  add_corpus_options(*train, *options);
  train
      ->add_option("--vocab_size", options->vocab_size,
                   "tokens: 256 bytes, merges and <|endoftext|>")
      ->capture_default_str()
      ->check(CLI::Range(257, 65536));
  return [options] { train_tokenizer(*options); };
}

}  // namespace gpt2train
