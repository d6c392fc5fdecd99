#include "gpt2train/train/advice.h"

#include <algorithm>
#include <functional>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

// The least that any candidate reserves. A trial under that very budget confirms it, because a
// tight budget makes the allocator give its cache back.
std::size_t smallest_reserved(const KernelTable& kernels, const RunConfig& config,
                              std::size_t budget_bytes) {
  std::size_t smallest = CachingAllocator::kNoBudget;
  // The last micro-batch is 1: whatever the recomputation, nothing smaller is allowed.
  for (const Plan& plan : candidate_plans(config)) {
    if (plan.micro_batch != 1) continue;
    const Prediction prediction = predict(kernels, config, plan, budget_bytes);
    if (prediction.fits()) smallest = std::min(smallest, prediction.stats.peak_reserved_bytes);
  }
  return smallest;
}

using Edit = std::function<bool(RunConfig&)>;  // false: not a change

struct Change {
  std::string text;
  Edit edit;
};

std::vector<Change> single_changes(const KernelTable& kernels, const RunConfig& config) {
  std::vector<Change> changes;
  const auto add = [&](std::string text, const Edit& edit) {
    RunConfig trial = config;
    if (edit(trial)) changes.push_back({std::move(text), edit});
  };
  if (config.memory.recompute) {
    add("--recompute=auto", [](RunConfig& c) { return c.memory.recompute.reset(), true; });
  }
  add("--logits=chunked", [](RunConfig& c) {
    return std::exchange(c.memory.logits, Logits::kChunked) != Logits::kChunked;
  });
  for (std::int64_t rows = config.memory.logits_rows / 2; rows >= 64; rows /= 2) {
    add(concat("--logits_rows=", rows), [rows](RunConfig& c) {
      c.memory.logits_rows = rows;
      return c.memory.logits == Logits::kChunked;
    });
  }
  add("--moments=bfloat16", [](RunConfig& c) {
    return std::exchange(c.memory.moments, Moments::kBFloat16) == Moments::kFloat32;
  });
  add("--moments=int8", [](RunConfig& c) {
    return std::exchange(c.memory.moments, Moments::kInt8) != Moments::kInt8;
  });
  add("--master_weights=false", [](RunConfig& c) {
    return std::exchange(c.memory.master_weights, false) && c.dtype == DType::kBFloat16;
  });
  for (const auto& [text, offload] : {std::pair("--offload=moments", Offload::kMoments),
                                      {"--offload=optimizer", Offload::kOptimizer}}) {
    add(text, [&kernels, offload = offload](RunConfig& c) {
      return kernels.has_own_memory && std::exchange(c.memory.offload, offload) < offload;
    });
  }
  add("--dtype=bfloat16",
      [](RunConfig& c) { return std::exchange(c.dtype, DType::kBFloat16) == DType::kFloat32; });
  for (std::int64_t size = config.model.block_size / 2; size >= 32; size /= 2) {
    add(concat("--block_size=", size), [size](RunConfig& c) {
      c.model.block_size = size;
      return true;
    });
  }
  for (std::int64_t layers = config.model.n_layer * 3 / 4; layers >= 1; layers = layers * 3 / 4) {
    add(concat("--n_layer=", layers), [layers](RunConfig& c) {
      c.model.n_layer = layers;
      return true;
    });
  }
  const std::int64_t unit = config.model.n_head * 8;
  for (std::int64_t width = config.model.n_embd * 2 / 3 / unit * unit; width >= unit;
       width = width * 2 / 3 / unit * unit) {
    add(concat("--n_embd=", width), [width](RunConfig& c) {
      c.model.n_embd = width;
      return true;
    });
  }
  return changes;
}

}  // namespace

Advice advise(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes) {
  Advice advice;
  advice.smallest_budget_bytes = smallest_reserved(kernels, config, CachingAllocator::kNoBudget);

  std::string suggested;  // one suggestion a setting: the smallest change of it that fits
  for (const Change& change : single_changes(kernels, config)) {
    const std::string setting = change.text.substr(0, change.text.find('='));
    if (setting == suggested) continue;
    RunConfig trial = config;
    static_cast<void>(change.edit(trial));
    const std::size_t reserved = smallest_reserved(kernels, trial, budget_bytes);
    if (reserved > budget_bytes) continue;
    advice.suggestions.push_back({change.text, reserved});
    suggested = setting;
  }
  return advice;
}

std::string to_text(const Advice& advice) {
  std::string text =
      concat("the smallest memory.limit that works here is ", advice.smallest_budget_bytes,
             " bytes (", human_bytes(advice.smallest_budget_bytes), ')');
  const char* lead = "; to fit this one, any of ";
  for (const Suggestion& suggestion : advice.suggestions) {
    text += concat(lead, suggestion.change, " (", human_bytes(suggestion.reserved_bytes), ')');
    lead = ", ";
  }
  return text;
}

}  // namespace gpt2train
