// Sampling from a model of a few thousand parameters, on whichever device.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "gpt2train/core/rng.h"
#include "gpt2train/train/sampling.h"
#include "gpt2train/train/step.h"
#include "tests/support/tiny_run.h"

namespace gpt2train::test {

inline RunConfig sampling_config(DType dtype) {
  RunConfig config = tiny_config();
  config.dtype = dtype;
  config.model.block_size = 24;
  return config;
}

struct Texts {
  std::map<std::int64_t, std::vector<std::int32_t>> tokens = {};        // of each sample
  std::map<std::int64_t, std::vector<std::vector<float>>> logits = {};  // for each token
  MemoryStats stats = {};
};

inline std::vector<std::int32_t> prompt_of(std::int64_t length, const RunConfig& config) {
  std::vector<std::int32_t> prompt;
  for (std::uint32_t i = 0; i < length; ++i) {
    const std::uint64_t word = philox({i, 0, 0, 0}, 3)[0];
    prompt.push_back(static_cast<std::int32_t>(below(word << 32, config.model.vocab_size)));
  }
  return prompt;
}

// Sample s takes the likeliest token but at its s-th: there the least likely, so that texts differ.
inline std::optional<std::int32_t> pick(std::int64_t sample, std::int64_t index,
                                        std::span<const float> logits) {
  const auto [least, most] = std::minmax_element(logits.begin(), logits.end());
  return static_cast<std::int32_t>((index == sample ? least : most) - logits.begin());
}

inline Texts sample(const RunConfig& config, SamplingTask task, std::int64_t at_once,
                    std::unique_ptr<Backend> device,
                    std::size_t budget = CachingAllocator::kNoBudget) {
  CachingAllocator memory(device->upstream(), budget);
  const Exec exec(device->kernels(), memory, Compute::kRun, device->stream());
  ModelState state(exec, config.model, precision_of(config), Purpose::kInference);
  state.initialise(exec, 7);
  Texts texts;
  const auto next = task.next ? task.next : pick;
  task.next = [&](std::int64_t s, std::int64_t index, std::span<const float> logits) {
    const auto token = next(s, index, logits);
    if (token) texts.tokens[s].push_back(*token);
    texts.logits[s].emplace_back(logits.begin(), logits.end());
    return token;
  };
  sample_texts({exec, config, state.weights()}, task, at_once);
  texts.stats = memory.stats();
  return texts;
}

inline double largest_deviation(const Texts& a, const Texts& b) {
  double largest = 0.0;
  for (const auto& [s, rows] : a.logits) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t v = 0; v < rows[i].size(); ++v) {
        const double deviation = std::abs(double{rows[i][v]} - double{b.logits.at(s)[i][v]});
        largest = std::max(largest, deviation);
      }
    }
  }
  return largest;
}

// Prompts of one token, of many, of a whole window and of more; texts that stay within the window
// and texts that leave it.
inline std::vector<SamplingTask> sampling_tasks(const RunConfig& config) {
  const std::int64_t T = config.model.block_size;
  std::vector<SamplingTask> tasks;
  for (const auto& [prompt, tokens] : {std::pair{std::int64_t{1}, T},
                                       {T - 5, std::int64_t{9}},
                                       {T, std::int64_t{3}},
                                       {T + 2, std::int64_t{2}}}) {
    tasks.push_back(
        {.prompt = prompt_of(prompt, config), .num_samples = 3, .max_new_tokens = tokens});
  }
  return tasks;
}

inline void expect_cache_changes_nothing(const RunConfig& config,
                                         const std::function<std::unique_ptr<Backend>()>& device,
                                         double limit) {
  for (SamplingTask task : sampling_tasks(config)) {
    SCOPED_TRACE(concat("prompt of ", task.prompt.size(), ", ", task.max_new_tokens, " more"));
    task.caching = Caching::kRecomputed;
    const Texts expected = sample(config, task, 1, device());
    task.caching = Caching::kKept;
    for (const std::int64_t at_once : {1, 2, 3}) {
      const Texts texts = sample(config, task, at_once, device());
      EXPECT_EQ(texts.tokens, expected.tokens) << at_once << " at once";
      EXPECT_LE(largest_deviation(expected, texts), limit) << at_once << " at once";
    }
    EXPECT_EQ(expected.tokens.at(1).size(), static_cast<std::size_t>(task.max_new_tokens));
    EXPECT_NE(expected.tokens.at(0), expected.tokens.at(1));
  }
}

inline void expect_memory_as_predicted(const RunConfig& config,
                                       const std::function<std::unique_ptr<Backend>()>& device) {
  for (const SamplingTask& task : sampling_tasks(config)) {
    for (const std::int64_t at_once : {1, 2, 5}) {  // of three
      SCOPED_TRACE(concat("prompt of ", task.prompt.size(), ", ", at_once, " at once"));
      const auto work = [&](const InferenceModel& model, std::int64_t rows) {
        sample_texts(model, task, rows);
      };
      const Prediction predicted = predict_inference(device()->kernels(), config, at_once,
                                                     CachingAllocator::kNoBudget, work);
      const MemoryStats stats = sample(config, task, at_once, device()).stats;
      EXPECT_EQ(stats.peak_allocated_bytes, predicted.stats.peak_allocated_bytes);
      EXPECT_EQ(stats.peak_reserved_bytes, predicted.stats.peak_reserved_bytes);
      EXPECT_EQ(stats.by_tag_at_peak, predicted.stats.by_tag_at_peak);
    }
  }
}

}  // namespace gpt2train::test
