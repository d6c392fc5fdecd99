// The runs that five notes on training GPT-2 with nanoGPT on 12 GB cards describe, with what they
// claim of each: the settings, and the figures where they give any.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "gpt2train/nanogpt/nanogpt.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

// What a note says of a run, or of a run with a fix: that it runs out of memory, or would fit.
enum class Claim : unsigned char { kFails, kFits };

struct Scenario {
  std::string_view id;        // "A2b": a letter for the note, then the fix
  std::string_view title;     // one line
  std::string_view settings;  // YAML that differs from GPT-2 124M on an RTX 3060
  double free_gib;            // of the card, to the run: less other processes and the context
  Claim claim;
  std::string_view claim_text;
  double low_gib = 0.0, high_gib = 0.0;  // of nanoGPT's memory, where the note says; else 0
  NanogptForm form = NanogptForm::kCompiled;
  TorchSegments segments = TorchSegments::kClassic;
  bool nanogpt_has_it = true;  // false: the note names something that nanoGPT cannot do
};

std::span<const Scenario> scenarios();

// The settings of a scenario as a file of configs/documents has them.
std::string scenario_yaml(const Scenario& scenario);

RunConfig config_of(const Scenario& scenario);

}  // namespace gpt2train
