// Plans and memory as JSON, the same in metrics.jsonl and in `plan --json`.
#pragma once

#include <nlohmann/json.hpp>

#include "gpt2train/memory/allocator.h"
#include "gpt2train/train/plan.h"

namespace gpt2train {

inline nlohmann::ordered_json to_json(const TagBytes& bytes) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (std::size_t tag = 0; tag < kTagCount; ++tag) {
    object[name_of(static_cast<Tag>(tag))] = bytes[tag];
  }
  return object;
}

inline nlohmann::ordered_json to_json(const Plan& plan) {
  return {{"micro_batch", plan.micro_batch},
          {"accumulation", plan.accumulation},
          {"recompute", name_of(plan.recompute)},
          {"recompute_layers", plan.block_layers}};
}

inline nlohmann::ordered_json peaks_by_phase(const MemoryStats& stats) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (std::size_t phase = 0; phase < kPhaseCount; ++phase) {
    object[name_of(static_cast<Phase>(phase))] = stats.peak_by_phase[phase];
  }
  return object;
}

}  // namespace gpt2train
