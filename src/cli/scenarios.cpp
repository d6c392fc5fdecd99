#include "src/cli/scenarios.h"

#include <fmt/format.h>

#include <array>

#include "gpt2train/config/load.h"

namespace gpt2train {
namespace {

// A 12 GB card reports 11.69 GiB. A context takes some 0.22 GiB of it; in the second note other
// programs had 1.97 GiB as well. The third note's card is an RTX 4070 with 11.99 GiB; it puts a
// context at up to 0.5 GiB. Ranges are sums of the notes' own parts.
constexpr double kCard = 11.69 - 0.22, kBusyCard = 11.69 - 0.22 - 1.97, kCard4070 = 11.99 - 0.22;

constexpr std::string_view kA = "training:\n  batch_size: 16\n  gradient_accumulation_steps: 32\n";
constexpr std::string_view kB =
    "training:\n  batch_size: 64\n  gradient_accumulation_steps: 1\n  max_iters: 20000\n"
    "  log_interval: 100\n";

constexpr std::array kScenarios = {
    Scenario{.id = "A",
             .title = "GPT-2 124M, 16 x 1024, accumulation 32",
             .settings = kA,
             .free_gib = kCard,
             .claim = Claim::kFails,
             .claim_text = "at or over 12 GB, 9 to 11 of them activations",
             .low_gib = 10.2,
             .high_gib = 12.3},
    Scenario{.id = "A1",
             .title = "batch_size 8, accumulation 64",
             .settings = "training:\n  batch_size: 8\n  gradient_accumulation_steps: 64\n",
             .free_gib = kCard,
             .claim = Claim::kFits,
             .claim_text = "activations 40 to 50 % down"},
    Scenario{.id = "A2",
             .title = "batch_size 4, accumulation 128",
             .settings = "training:\n  batch_size: 4\n  gradient_accumulation_steps: 128\n",
             .free_gib = kCard,
             .claim = Claim::kFits,
             .claim_text = "safer"},
    Scenario{.id = "A2b",
             .title = "batch_size 2, accumulation 256",
             .settings = "training:\n  batch_size: 2\n  gradient_accumulation_steps: 256\n",
             .free_gib = kCard,
             .claim = Claim::kFits,
             .claim_text = "for a card strictly limited to 12 GB"},
    Scenario{.id = "A3",
             .title = "batch_size 8, accumulation 32",
             .settings = "training:\n  batch_size: 8\n  gradient_accumulation_steps: 32\n",
             .free_gib = kCard,
             .claim = Claim::kFits,
             .claim_text = "with noisier gradients"},
    Scenario{.id = "A4a",
             .title = "n_layer 9",
             .settings = "model:\n  n_layer: 9\n"
                         "training:\n  batch_size: 16\n  gradient_accumulation_steps: 32\n",
             .free_gib = kCard,
             .claim = Claim::kFits,
             .claim_text = "a huge saving"},
    Scenario{.id = "A4b",
             .title = "n_embd 512",
             .settings = "model:\n  n_head: 8\n  n_embd: 512\n"
                         "training:\n  batch_size: 16\n  gradient_accumulation_steps: 32\n",
             .free_gib = kCard,
             .claim = Claim::kFits,
             .claim_text = "a huge saving"},
    Scenario{.id = "B",
             .title = "GPT-2 124M, 64 x 1024, beside programs with 1.97 GiB",
             .settings = kB,
             .free_gib = kBusyCard,
             .claim = Claim::kFails,
             .claim_text = "logits of 6.14 GiB asked for in the first evaluation"},
    Scenario{.id = "B1",
             .title = "batch_size 4, accumulation 16",
             .settings = "training:\n  batch_size: 4\n  gradient_accumulation_steps: 16\n",
             .free_gib = kBusyCard,
             .claim = Claim::kFits,
             .claim_text = "4 to 6 GiB in all, logits 0.38 GiB",
             .low_gib = 4.0,
             .high_gib = 6.0},
    Scenario{.id = "B2",
             .title = "without torch.compile",
             .settings = kB,
             .free_gib = kBusyCard,
             .claim = Claim::kFits,
             .claim_text = "1 to 2 GiB less",
             .form = NanogptForm::kEager},
    Scenario{.id = "B3",
             .title = "block_size 512",
             .settings = "model:\n  block_size: 512\n"
                         "training:\n  batch_size: 64\n  gradient_accumulation_steps: 1\n",
             .free_gib = kBusyCard,
             .claim = Claim::kFits,
             .claim_text = "logits 3.07 GiB"},
    Scenario{.id = "B4",
             .title = "expandable segments",
             .settings = "training:\n  batch_size: 64\n  gradient_accumulation_steps: 1\n"
                         "memory:\n  segments: expandable\n",
             .free_gib = kBusyCard,
             .claim = Claim::kFits,
             .claim_text = "helps against fragmentation",
             .segments = TorchSegments::kExpandable},
    Scenario{.id = "B5",
             .title = "eval_interval 1000, eval_iters 50",
             .settings = "training:\n  batch_size: 64\n  gradient_accumulation_steps: 1\n"
                         "evaluation:\n  eval_interval: 1000\n  eval_iters: 50\n",
             .free_gib = kBusyCard,
             .claim = Claim::kFits,
             .claim_text = "evaluates less often"},
    Scenario{.id = "B6",
             .title = "with the other programs' memory freed",
             .settings = kB,
             .free_gib = kCard,
             .claim = Claim::kFits,
             .claim_text = "frees what other processes hold"},
    Scenario{.id = "C",
             .title = "30M parameters, 16 x 512, float16, on an RTX 4070",
             .settings = "dtype: float16\nmodel:\n  n_layer: 6\n  n_head: 6\n  n_embd: 384\n"
                         "  block_size: 512\ntraining:\n  batch_size: 16\n"
                         "  gradient_accumulation_steps: 4\n",
             .free_gib = kCard4070,
             .claim = Claim::kFits,
             .claim_text = "4,464 MiB in the process, its context included",
             .low_gib = 3.86,
             .high_gib = 4.36},
    Scenario{.id = "C1",
             .title = "batch_size 8, accumulation 8",
             .settings = "dtype: float16\nmodel:\n  n_layer: 6\n  n_head: 6\n  n_embd: 384\n"
                         "  block_size: 512\ntraining:\n  batch_size: 8\n"
                         "  gradient_accumulation_steps: 8\n",
             .free_gib = kCard4070,
             .claim = Claim::kFits,
             .claim_text = "under 4 GB",
             .low_gib = 0.1,
             .high_gib = 4.0},
    Scenario{.id = "C2",
             .title = "block_size 256",
             .settings = "dtype: float16\nmodel:\n  n_layer: 6\n  n_head: 6\n  n_embd: 384\n"
                         "  block_size: 256\ntraining:\n  batch_size: 16\n"
                         "  gradient_accumulation_steps: 4\n",
             .free_gib = kCard4070,
             .claim = Claim::kFits,
             .claim_text = "under 4 GB",
             .low_gib = 0.1,
             .high_gib = 4.0},
    Scenario{.id = "C3",
             .title = "gradient checkpointing",
             .settings = "dtype: float16\nmodel:\n  n_layer: 6\n  n_head: 6\n  n_embd: 384\n"
                         "  block_size: 512\ntraining:\n  batch_size: 16\n"
                         "  gradient_accumulation_steps: 4\n"
                         "memory:\n  recompute: block\n",
             .free_gib = kCard4070,
             .claim = Claim::kFits,
             .claim_text = "under 4 GB",
             .low_gib = 0.1,
             .high_gib = 4.0,
             .nanogpt_has_it = false},
};

}  // namespace

std::span<const Scenario> scenarios() {
  return kScenarios;
}

std::string scenario_yaml(const Scenario& scenario) {
  const std::string budget = fmt::format("{:.2f}GiB", scenario.free_gib);
  std::string yaml =
      fmt::format("# {}: {}\n# The note: {}.\n# Written by `gpt2train reproduce --write`.\n",
                  scenario.id, scenario.title, scenario.claim_text);
  yaml += scenario.settings;
  if (scenario.settings.find("memory:\n") == std::string_view::npos) yaml += "memory:\n";
  return yaml + fmt::format("  limit: {}\n", budget);
}

RunConfig config_of(const Scenario& scenario) {
  return parse_config(scenario_yaml(scenario), fmt::format("scenario {}", scenario.id), {});
}

}  // namespace gpt2train
