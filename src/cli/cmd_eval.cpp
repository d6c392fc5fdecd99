// `gpt2train eval`: how well a trained model predicts a text, and how often it finds the right
// ending.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "gpt2train/core/units.h"
#include "gpt2train/data/mapped_file.h"
#include "gpt2train/data/tokens.h"
#include "gpt2train/train/choice_score.h"
#include "gpt2train/train/text_loss.h"
#include "src/cli/commands.h"
#include "src/cli/model_options.h"
#include "src/cli/questions.h"
#include "src/run/text_codec.h"
#include "src/run/trained_model.h"

namespace gpt2train {
namespace {

struct EvalOptions {
  ModelSource model;
  std::string data;       // empty: the settings' data.val, where no questions are asked either
  std::string hellaswag;  // empty: none
  std::string vocab;      // a directory; empty: files are of tokens
  std::int64_t stride = 0;
  std::int64_t batch = 0;
  bool json = false;
};

std::string path_of_text(const EvalOptions& options, const RunConfig& config) {
  return options.data.empty() ? config.data.val : options.data;
}

// The one token file that is named.
TokenSource open_tokens(const EvalOptions& options, const RunConfig& config) {
  const char* const where = options.data.empty() ? "data.val" : "--data";
  const bool bytes = config.data.format == TokenFormat::kBytes;
  TokenSource source(path_of_text(options, config),
                     bytes ? TokenFormat::kBytes : TokenFormat::kAuto, config.model.vocab_size);
  if (source.file_count() > 1) {
    throw ConfigError(where, concat("names ", source.file_count(), " files, expected one"));
  }
  if (source.format() == TokenFormat::kBytes && !bytes) {
    throw ConfigError(where,
                      "is text, and this model was not trained on bytes: name its vocabulary with "
                      "--vocab");
  }
  if (source.token_count() < 2) {
    throw ConfigError(where, concat("has ", source.token_count(), " tokens, expected 2 or more"));
  }
  return source;
}

TokenText text_in(const EvalOptions& options, const RunConfig& config, TextCodec& codec) {
  const std::string path = path_of_text(options, config);
  using Out = std::span<std::int32_t>;
  if (!options.vocab.empty() && path.ends_with(".txt")) {
    const MappedFile file(path);
    const std::string text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    const auto tokens = std::make_shared<std::vector<std::int32_t>>(codec.encode(text, path));
    if (tokens->size() < 2) throw DataError(path, "is one token, expected 2 or more");
    return {.count = std::ssize(*tokens), .read = [tokens](std::int64_t first, Out out) {
              std::copy_n(tokens->begin() + first, out.size(), out.begin());
            }};
  }
  const auto source = std::make_shared<TokenSource>(open_tokens(options, config));
  return {.count = source->token_count(),
          .read = [source](std::int64_t first, Out out) { source->read_window(first, out); }};
}

// What was asked for, and what came of it.
struct Evaluation {
  std::optional<TokenText> text = {};
  std::int64_t stride = 0;
  std::vector<ChoiceExample> questions = {};
  TextLoss loss = {};
  ChoiceScore score = {};
  double text_seconds = 0.0, question_seconds = 0.0;

  void run(const InferenceModel& model, std::int64_t rows) {
    using Clock = std::chrono::steady_clock;
    using Seconds = std::chrono::duration<double>;
    const auto start = Clock::now();
    if (text) loss = text_loss(model, *text, stride, rows);
    const auto middle = Clock::now();
    if (!questions.empty()) score = score_choices(model, questions, rows);
    text_seconds = Seconds(middle - start).count();
    question_seconds = Seconds(Clock::now() - middle).count();
  }
};

void print_json(const Evaluation& e, const TrainedModel& model, const FittingRows& fit) {
  nlohmann::ordered_json object;
  if (e.text) {
    object["text"] = {{"tokens", e.loss.tokens},
                      {"loss", e.loss.mean()},
                      {"perplexity", std::exp(e.loss.mean())},
                      {"window", model.config().model.block_size},
                      {"stride", e.stride},
                      {"seconds", e.text_seconds}};
  }
  if (!e.questions.empty()) {
    object["hellaswag"] = {{"examples", e.score.examples},
                           {"correct", e.score.correct},
                           {"accuracy", e.score.accuracy()},
                           {"correct_normalised", e.score.correct_normalised},
                           {"accuracy_normalised", e.score.accuracy_normalised()},
                           {"seconds", e.question_seconds}};
  }
  object["batch"] = fit.rows;
  object["predicted_peak_bytes"] = fit.prediction.stats.peak_allocated_bytes;
  object["peak_bytes"] = model.stats().peak_allocated_bytes;
  object["predicted_reserved_bytes"] = fit.prediction.stats.peak_reserved_bytes;
  object["reserved_bytes"] = model.stats().peak_reserved_bytes;
  fmt::print("{}\n", object.dump(2));
}

void print_text(const Evaluation& e, const TrainedModel& model, const FittingRows& fit) {
  if (e.text) {
    fmt::print("loss {:.4f}, perplexity {:.4f}: {} tokens, windows of {} every {}, {:.1f} s\n",
               e.loss.mean(), std::exp(e.loss.mean()), e.loss.tokens,
               model.config().model.block_size, e.stride, e.text_seconds);
  }
  if (!e.questions.empty()) {
    fmt::print("accuracy {:.2f} %, normalised {:.2f} %: {} examples, {:.1f} s\n",
               100.0 * e.score.accuracy(), 100.0 * e.score.accuracy_normalised(), e.score.examples,
               e.question_seconds);
  }
  fmt::print("peak memory, predicted: {}, measured: {}, {} sequences at a time\n",
             human_bytes(fit.prediction.stats.peak_allocated_bytes),
             human_bytes(model.stats().peak_allocated_bytes), fit.rows);
}

void run(const EvalOptions& options) {
  TrainedModel trained(options.model, note_on_stderr);
  const RunConfig& config = trained.config();
  Evaluation evaluation{.stride = options.stride > 0 ? options.stride : config.model.block_size};
  if (evaluation.stride > config.model.block_size) {
    throw ConfigError("--stride",
                      concat("is ", evaluation.stride, ", expected at most block_size, ",
                             config.model.block_size));
  }
  const auto codec = text_codec(config, options.vocab);
  if (!options.hellaswag.empty()) {
    evaluation.questions = read_questions(options.hellaswag, config.model.vocab_size,
                                          options.vocab.empty() ? nullptr : codec.get());
  }
  if (!options.data.empty() || options.hellaswag.empty()) {
    evaluation.text = text_in(options, config, *codec);
  }
  const std::int64_t most = options.batch > 0 ? options.batch
                            : config.evaluation.eval_micro_batch > 0
                                ? config.evaluation.eval_micro_batch
                                : config.training.batch_size;
  const InferenceWork work = [&](const InferenceModel& model, std::int64_t rows) {
    evaluation.run(model, rows);
  };
  const FittingRows fit =
      fitting_rows(trained.kernels(), config, most, trained.budget_bytes(), work);
  evaluation.run(trained.load(), fit.rows);
  options.json ? print_json(evaluation, trained, fit) : print_text(evaluation, trained, fit);
}

}  // namespace

Command add_eval(CLI::App& app) {
  const auto options = std::make_shared<EvalOptions>();
  add_model_options(app, options->model);
  app.add_option("--data", options->data,
                 "file to predict: tokens, or with --vocab text (.txt); else the settings' val")
      ->type_name("FILE");
  app.add_option("--hellaswag", options->hellaswag,
                 "HellaSwag in llm.c's format, or with --vocab its own (.jsonl)")
      ->type_name("FILE");
  app.add_option("--vocab", options->vocab, "directory of the model's vocabulary")
      ->type_name("DIR");
  app.add_option("--stride", options->stride,
                 "tokens from window to window; 0: block_size, so that windows do not overlap")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--batch", options->batch,
                 "sequences at a time, where memory allows; 0: as the settings evaluate")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  app.add_flag("--json", options->json, "the figures as JSON");
  return [options] { run(*options); };
}

}  // namespace gpt2train
