// `gpt2train sample`: text from a checkpoint, one token at a time.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "gpt2train/config/load.h"
#include "gpt2train/core/rng.h"
#include "gpt2train/model/gpt2.h"
#include "gpt2train/ops/ops.h"
#include "gpt2train/train/checkpoint.h"
#include "gpt2train/train/state.h"
#include "gpt2train/train/step.h"
#include "src/cli/commands.h"
#include "src/cli/machine.h"

namespace gpt2train {
namespace {

struct SampleOptions {
  std::string out_dir = "out";
  std::string checkpoint;  // empty: the newest of out_dir
  std::string prompt = "\n";
  std::string limit = "auto";
  std::int64_t num_samples = 1;
  std::int64_t max_new_tokens = 500;
  double temperature = 0.8;
  std::int64_t top_k = 200;
  std::uint64_t seed = 1337;
};

// Draws from softmax(logits / temperature) over the top_k largest; temperature 0 takes the largest.
std::int32_t draw(std::vector<float> logits, const SampleOptions& options, std::uint64_t item,
                  std::uint32_t position) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (options.temperature == 0.0) return static_cast<std::int32_t>(largest - logits.begin());
  const double top = *largest;
  if (options.top_k > 0 && options.top_k < std::ssize(logits)) {
    std::vector<float> sorted = logits;
    const auto nth = sorted.begin() + (options.top_k - 1);
    std::nth_element(sorted.begin(), nth, sorted.end(), std::greater<>());
    for (float& logit : logits) {
      if (logit < *nth) logit = -INFINITY;
    }
  }
  std::vector<double> cumulative(logits.size());
  double sum = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    sum += std::exp((static_cast<double>(logits[i]) - top) / options.temperature);
    cumulative[i] = sum;
  }
  const Philox4 words = random_words(options.seed, RandomUse::kSampling, item, 0, position);
  const double point = static_cast<double>(unit_float(words[0])) * sum;
  const auto at = std::upper_bound(cumulative.begin(), cumulative.end(), point);
  return static_cast<std::int32_t>(std::min(at - cumulative.begin(), std::ssize(logits) - 1));
}

// "15 27, 3" as tokens; nothing but white space is token 0.
std::vector<std::int32_t> parse_tokens(const std::string& text, std::int64_t vocab) {
  std::vector<std::int32_t> tokens;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto separates = [](char c) { return c == ' ' || c == ',' || c == '\n' || c == '\t'; };
  while (at != end) {
    if (separates(*at)) {
      ++at;
      continue;
    }
    std::int32_t token = 0;
    const auto [next, error] = std::from_chars(at, end, token);
    if (error != std::errc{} || (next != end && !separates(*next)) || token < 0 || token >= vocab) {
      throw ConfigError("--prompt",
                        concat("this model's data was not bytes: give token numbers from 0 to ",
                               vocab - 1, ", such as --prompt=\"15 27\""));
    }
    tokens.push_back(token);
    at = next;
  }
  if (tokens.empty()) tokens.push_back(0);
  return tokens;
}

// A trained model and the scratch to ask it for the next token.
class Sampler {
 public:
  Sampler(const RunConfig& config, const std::string& checkpoint)
      : config_(config),
        backend_(open_backend(config.device)),
        memory_(backend_->upstream(), resolve_budget(config.memory, backend_->info())),
        exec_(backend_->kernels(), memory_, Compute::kRun, backend_->stream()),
        state_(exec_, config_.model, precision_of(config_), Purpose::kInference) {
    state_.load_weights(exec_, SafetensorsFile(checkpoint + "/model.safetensors"), false);
  }

  std::vector<float> next_logits(std::span<const std::int32_t> context) {
    const PhaseScope phase(memory_, Phase::kSampling);
    const Scope scope(exec_, "sampling");
    const auto time = static_cast<std::int64_t>(context.size());
    const Tensor tokens(memory_, Tag::kStaging, "tokens", DType::kInt32, {1, time});
    ops::upload(exec_, tokens, context.data());
    const Pass pass{.exec = exec_,
                    .config = config_.model,
                    .precision = precision_of(config_),
                    .batch = 1,
                    .time = time};
    const Tensor x = forward(pass, state_.weights(), tokens);
    const Tensor last = head_logits(pass, x.view().slice_rows(time - 1, 1), state_.weights().wte);
    const Tensor wide(memory_, Tag::kLogits, "logits_fp32", DType::kFloat32, last.view().shape);
    ops::cast(exec_, {.out = wide, .in = last});
    std::vector<float> logits(static_cast<std::size_t>(wide.view().count()));
    ops::download(exec_, logits.data(), wide);
    logits.resize(static_cast<std::size_t>(config_.model.vocab_size));
    return logits;
  }

 private:
  RunConfig config_;
  std::unique_ptr<Backend> backend_;
  CachingAllocator memory_;
  Exec exec_;
  ModelState state_;
};

void run(const SampleOptions& options) {
  std::string path = options.checkpoint;
  if (path.empty()) {
    std::vector<std::string> rejected;
    path = newest_whole_checkpoint(options.out_dir, rejected).path;
    for (const std::string& problem : rejected) fmt::print(stderr, "skipped {}\n", problem);
  } else if (const auto problem = checkpoint_problem(path)) {
    throw CheckpointError(path, *problem);
  }
  const RunConfig config =
      parse_config(read_checkpoint_config(path), path + "/config.yaml",
                   {{.flag = "--memory.limit", .key = "memory.limit", .value = options.limit}});
  if (options.prompt.empty())
    throw ConfigError("--prompt", "is empty: give at least one character");

  // A model of at most 256 tokens reads and writes bytes; others speak in token numbers.
  const bool bytes = config.data.format == TokenFormat::kBytes;
  std::vector<std::int32_t> prompt;
  if (bytes) {
    for (const char c : options.prompt) prompt.push_back(static_cast<unsigned char>(c));
  } else {
    prompt = parse_tokens(options.prompt, config.model.vocab_size);
  }

  Sampler sampler(config, path);
  for (std::int64_t sample = 0; sample < options.num_samples; ++sample) {
    std::vector<std::int32_t> tokens = prompt;
    const auto show = [&](std::int32_t token) {
      if (bytes) {
        std::fputc(token, stdout);
      } else {
        fmt::print("{} ", token);
      }
    };
    for (const std::int32_t token : prompt) show(token);
    for (std::int64_t i = 0; i < options.max_new_tokens; ++i) {
      const std::size_t keep =
          std::min(tokens.size(), static_cast<std::size_t>(config.model.block_size));
      const std::vector<float> logits = sampler.next_logits(std::span(tokens).last(keep));
      tokens.push_back(
          draw(logits, options, static_cast<std::uint64_t>(sample), static_cast<std::uint32_t>(i)));
      show(tokens.back());
      std::fflush(stdout);
    }
    std::fputs(sample + 1 < options.num_samples ? "\n---------------\n" : "\n", stdout);
  }
}

}  // namespace

Command add_sample(CLI::App& app) {
  const auto options = std::make_shared<SampleOptions>();
  app.add_option("--out_dir", options->out_dir, "run whose newest whole checkpoint to use")
      ->capture_default_str();
  app.add_option("--checkpoint", options->checkpoint,
                 "a checkpoint directory, instead of --out_dir");
  app.add_option("--prompt,--start", options->prompt,
                 "text to go on from; token numbers where the model is not of bytes");
  app.add_option("--num_samples", options->num_samples, "texts to write")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option("--max_new_tokens", options->max_new_tokens, "tokens of each")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  app.add_option("--temperature", options->temperature,
                 "1: as trained, lower: safer, 0: the likeliest token")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--top_k", options->top_k, "draw from the k likeliest tokens; 0: from all")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000));
  app.add_option("--seed", options->seed, "of the random numbers")->capture_default_str();
  app.add_option("--memory.limit,--limit", options->limit,
                 "memory budget: bytes, a fraction, or auto")
      ->capture_default_str();
  return [options] { run(*options); };
}

}  // namespace gpt2train
