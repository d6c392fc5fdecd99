// `gpt2train sample`: text from a trained model.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "gpt2train/run/draw.h"
#include "gpt2train/train/sampling.h"
#include "src/cli/commands.h"
#include "src/cli/model_options.h"
#include "src/run/text_codec.h"
#include "src/run/trained_model.h"

namespace gpt2train {
namespace {

struct SampleOptions {
  ModelSource model;
  DrawSettings draw;
  std::string prompt = "\n";
  std::string vocab;
  std::int64_t num_samples = 1;
  std::int64_t max_new_tokens = 500;
  std::int64_t batch = 1;
  bool stop_at_eot = false;
  bool recompute = false;
  bool json = false;
};

std::string rest_of(std::istream& in) {
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// "FILE:path" is what the file holds, "-" what comes on stdin.
std::string prompt_text(const std::string& prompt) {
  constexpr std::string_view kFile = "FILE:";
  if (prompt == "-") return rest_of(std::cin);
  if (!prompt.starts_with(kFile)) return prompt;
  const std::string path = prompt.substr(kFile.size());
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError("--prompt", concat("cannot read ", path));
  return rest_of(file);
}

void print_line(const nlohmann::ordered_json& object) {
  // A text may end within a character.
  fmt::print("{}\n", object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  std::fflush(stdout);
}

struct Sample {
  std::string text = {};
  std::vector<std::int32_t> tokens = {};
  bool at_end_of_text = false;
};

// Prints samples in order: token by token where one is written at a time, else when they are done.
class SamplePrinter {
 public:
  SamplePrinter(const SampleOptions& options, std::string prompt)
      : options_(options), prompt_(std::move(prompt)) {}

  void add(std::int64_t sample, std::int32_t token, const std::string& text) {
    Sample& each = begun(sample);
    each.tokens.push_back(token);
    each.text += text;
    if (streams()) write(text);
    ++token_count_;
  }
  void end_of_text(std::int64_t sample) { begun(sample).at_end_of_text = true; }

  void done(std::int64_t sample) {
    const Sample each = samples_[sample];
    samples_.erase(sample);
    if (options_.json) {
      return print_line({{"event", "sample"},
                         {"sample", sample},
                         {"prompt", prompt_},
                         {"text", each.text},
                         {"tokens", each.tokens},
                         {"ended", each.at_end_of_text ? "end_of_text" : "max_new_tokens"}});
    }
    if (!streams()) write(prompt_ + each.text);
    write(sample + 1 < options_.num_samples ? "\n---------------\n" : "\n");
  }
  std::int64_t token_count() const { return token_count_; }

 private:
  Sample& begun(std::int64_t sample) {
    const auto [found, fresh] = samples_.try_emplace(sample);
    if (fresh && streams()) write(prompt_);
    return found->second;
  }
  bool streams() const { return options_.batch == 1 && !options_.json; }
  static void write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  const SampleOptions& options_;
  const std::string prompt_;
  std::map<std::int64_t, Sample> samples_;  // under way
  std::int64_t token_count_ = 0;
};

// That the samples fit, before any memory is taken.
Prediction checked_memory(const TrainedModel& model, const SamplingTask& task, std::int64_t batch) {
  const InferenceWork work = [&](const InferenceModel& each, std::int64_t rows) {
    sample_texts(each, task, rows);
  };
  const FittingRows most =
      fitting_rows(model.kernels(), model.config(), batch, model.budget_bytes(), work);
  if (most.rows == batch) return most.prediction;
  const Prediction failed =
      predict_inference(model.kernels(), model.config(), batch, model.budget_bytes(), work);
  throw OutOfMemoryError(*failed.failure,
                         concat("fewer samples at once fit this budget: --batch=", most.rows));
}

void run(const SampleOptions& options) {
  TrainedModel trained(options.model, note_on_stderr);
  const auto codec = text_codec(trained.config(), options.vocab);
  const std::string prompt = prompt_text(options.prompt);
  const auto end_of_text = options.stop_at_eot ? codec->end_of_text() : std::nullopt;
  if (options.stop_at_eot && !end_of_text) {
    throw ConfigError("--stop_at_eot", "this model has no token for the end of a text");
  }
  SamplingTask task{.prompt = codec->encode(prompt, "--prompt"),
                    .num_samples = options.num_samples,
                    .max_new_tokens = options.max_new_tokens,
                    .caching = options.recompute ? Caching::kRecomputed : Caching::kKept};
  const std::int64_t batch = std::min(options.batch, options.num_samples);
  const Prediction prediction = checked_memory(trained, task, batch);

  std::string shown;
  for (const std::int32_t token : task.prompt) shown += codec->decode(token);
  SamplePrinter printer(options, shown);
  task.next = [&](std::int64_t sample, std::int64_t index,
                  std::span<const float> logits) -> std::optional<std::int32_t> {
    const std::int32_t token = draw_token(logits, options.draw, sample, index);
    if (token == end_of_text) {
      printer.end_of_text(sample);
      return std::nullopt;
    }
    printer.add(sample, token, codec->decode(token));
    return token;
  };
  task.done = [&](std::int64_t sample) { printer.done(sample); };

  const InferenceModel model = trained.load();
  const auto start = std::chrono::steady_clock::now();
  sample_texts(model, task, batch);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (!options.json) return;
  print_line({{"event", "end"},
              {"tokens", printer.token_count()},
              {"seconds", seconds.count()},
              {"predicted_peak_bytes", prediction.stats.peak_allocated_bytes},
              {"peak_bytes", trained.stats().peak_allocated_bytes},
              {"predicted_reserved_bytes", prediction.stats.peak_reserved_bytes},
              {"reserved_bytes", trained.stats().peak_reserved_bytes}});
}

}  // namespace

Command add_sample(CLI::App& app) {
  const auto options = std::make_shared<SampleOptions>();
  add_model_options(app, options->model);
  app.add_option("--prompt,--start", options->prompt,
                 "text to go on from, FILE:path or - for stdin; token numbers where the model is "
                 "not of bytes and there is no --vocab");
  app.add_option("--vocab", options->vocab, "directory of the vocabulary, such as tokenize reads")
      ->type_name("DIR");
  app.add_option("--num_samples", options->num_samples, "texts to write")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option("--batch", options->batch,
                 "texts to write at the same time; 1: shown as they grow")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option("--max_new_tokens", options->max_new_tokens, "tokens of each")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option("--temperature", options->draw.temperature,
                 "1: as trained, lower: safer, 0: the likeliest token")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--top_k", options->draw.top_k, "draw from the k likeliest tokens; 0: from all")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  app.add_option("--top_p", options->draw.top_p,
                 "and of these from the likeliest that have this share of the probability")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--seed", options->draw.seed, "of the random numbers")->capture_default_str();
  app.add_flag("--stop_at_eot", options->stop_at_eot, "end a text at its end-of-text token");
  app.add_flag("--recompute", options->recompute,
               "keep no keys and values: read the whole context for each token");
  app.add_flag("--json", options->json, "a JSON object a line: each sample, then the run");
  return [options] { run(*options); };
}

}  // namespace gpt2train
