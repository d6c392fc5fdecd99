#include "src/cli/plan_as.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

struct Answer {
  std::int64_t max_batch_size = 0;
  NanogptMemory configured;  // within the budget
  NanogptMemory needed;      // on a card without limit
};

Answer ask(const NanogptRun& run, std::size_t budget, TorchSegments segments) {
  // Expandable segments reserve addresses for 9/8 of the card, which must be countable.
  constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max() / 16;
  return {.max_batch_size = largest_nanogpt_batch(run, budget, segments),
          .configured = simulate_nanogpt(run, budget, segments),
          .needed = simulate_nanogpt(run, kNoLimit, segments)};
}

Json to_json(const Answer& answer) {
  const std::optional<NanogptFailure>& failure = answer.configured.failure;
  Json json = {{"fits", !failure}, {"max_batch_size", answer.max_batch_size}};
  for (const char* key :
       {"failing_tensor", "failing_shape", "failing_dtype", "failing_phase", "requested_bytes",
        "live_bytes_at_failure", "reserved_bytes_at_failure"}) {
    json[key] = nullptr;
  }
  if (failure) {
    json["failing_tensor"] = failure->tensor;
    json["failing_shape"] = failure->shape;
    json["failing_dtype"] = failure->dtype;
    json["failing_phase"] = name_of(failure->phase);
    json["requested_bytes"] = failure->requested_bytes;
    json["live_bytes_at_failure"] = failure->live_bytes;
    json["reserved_bytes_at_failure"] = failure->reserved_bytes;
  }
  const TorchAllocator::Stats& needed = answer.needed.stats;
  json["needed_requested_bytes"] = needed.peak_requested_bytes;
  json["needed_allocated_bytes"] = needed.peak_allocated_bytes;
  json["needed_reserved_bytes"] = needed.peak_reserved_bytes;
  json["forward_keeps_bytes"] = answer.needed.forward_keeps_bytes;
  for (std::size_t phase = 0; phase < kNanogptPhases; ++phase) {
    json["needed_by_phase"][name_of(static_cast<NanogptPhase>(phase))] =
        answer.needed.peak_by_phase[phase];
  }
  return json;
}

void print_line(TorchSegments segments, const Answer& answer) {
  const std::optional<NanogptFailure>& failure = answer.configured.failure;
  fmt::print(
      "  {:<10}  {:>16}  {:>12}  {:>12}  {}\n", name_of(segments), answer.max_batch_size,
      human_bytes(answer.needed.stats.peak_allocated_bytes),
      human_bytes(answer.needed.stats.peak_reserved_bytes),
      failure ? fmt::format("{} {} {}, {}: asks for {} with {} live", failure->tensor,
                            failure->shape, failure->dtype, name_of(failure->phase),
                            human_bytes(failure->requested_bytes), human_bytes(failure->live_bytes))
              : "nowhere");
}

OutOfMemoryError error_of(const NanogptFailure& failure, const Answer& answer,
                          TorchSegments segments, std::size_t budget) {
  return OutOfMemoryError({.requested_bytes = failure.requested_bytes,
                           .in_use_bytes = failure.live_bytes,
                           .cached_bytes = failure.reserved_bytes - failure.live_bytes,
                           .largest_free_block_bytes = failure.largest_free_block_bytes,
                           .budget_bytes = budget,
                           .tensor = failure.tensor,
                           .shape = failure.shape,
                           .dtype = failure.dtype,
                           .scope = fmt::format("nanoGPT's {}", name_of(failure.phase))},
                          fmt::format("the largest batch_size that fits is {}, with {} segments",
                                      answer.max_batch_size, name_of(segments)));
}

}  // namespace

void add_plan_as(CLI::App& app, std::optional<NanogptForm>& as) {
  const std::string eager = name_of(NanogptForm::kEager);
  const std::string compiled = name_of(NanogptForm::kCompiled);
  app.add_option_function<std::string>(
         "--as",
         [&as, compiled](const std::string& name) {
           as = name == compiled ? NanogptForm::kCompiled : NanogptForm::kEager;
         },
         "plan for nanoGPT in the same budget: nanogpt is compile=False")
      ->check(CLI::IsMember({eager, compiled}));
}

void plan_as(NanogptForm form, const RunConfig& config, std::size_t budget_bytes, bool json) {
  const NanogptRun run = {
      .model = config.model,
      .batch_size = config.training.batch_size,
      .gradient_accumulation_steps = config.training.gradient_accumulation_steps,
      .dtype = config.dtype,
      .form = form};
  const Answer classic = ask(run, budget_bytes, TorchSegments::kClassic);
  const Answer expandable = ask(run, budget_bytes, TorchSegments::kExpandable);
  const TorchSegments segments = config.memory.segments == Segments::kExpandable
                                     ? TorchSegments::kExpandable
                                     : TorchSegments::kClassic;
  const Answer& answer = segments == TorchSegments::kExpandable ? expandable : classic;
  if (json) {
    Json object = {{"as", name_of(form)},
                   {"budget_bytes", budget_bytes},
                   {"batch_size", run.batch_size},
                   {"block_size", run.model.block_size},
                   {"segments", name_of(segments)}};
    object.update(to_json(answer));
    object["by_segments"] = {{name_of(TorchSegments::kClassic), to_json(classic)},
                             {name_of(TorchSegments::kExpandable), to_json(expandable)}};
    fmt::print("{}\n", object.dump(2));
  } else {
    fmt::print("{}, batch_size {} x {}, {}, budget {}\n\n", name_of(form), run.batch_size,
               run.model.block_size, name_of(run.dtype), human_bytes(budget_bytes));
    fmt::print(
        "  segments    holds batch_size         needs      reserved  batch_size {} dies at\n",
        run.batch_size);
    print_line(TorchSegments::kClassic, classic);
    print_line(TorchSegments::kExpandable, expandable);
  }
  if (const auto& failure = answer.configured.failure) {
    throw error_of(*failure, answer, segments, budget_bytes);
  }
}

}  // namespace gpt2train
