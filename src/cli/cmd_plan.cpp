// `gpt2train plan`: the memory of a run, known before it starts.
#include <fmt/format.h>

#include "gpt2train/train/advice.h"
#include "src/cli/commands.h"
#include "src/cli/explain.h"
#include "src/cli/options.h"
#include "src/cli/plan_as.h"
#include "src/cli/plan_report.h"
#include "src/cli/tune_run.h"
#include "src/run/machine.h"

namespace gpt2train {
namespace {

struct PlanOptions {
  ConfigOptions config;
  bool json = false;
  bool all = false;
  bool explain = false;
  std::vector<std::string> bench;
  std::optional<NanogptForm> as;
};

void run(const PlanOptions& options) {
  const RunConfig config = load_config(options.config);
  const PlanTarget target = plan_target(config);
  const KernelTable& kernels = target.kernels;
  const std::size_t budget = target.budget_bytes;
  if (options.as) return plan_as(*options.as, config, budget, options.json);

  const Machine machine{.backend = kernels.name, .device = target.device};
  PlanAnswer answer = answer_plan(kernels, config, budget);
  add_speeds(answer, config,
             PlanSpeeds(kernels, config, machine, known_points(config.out_dir, options.bench)));
  if (config.memory.tune) {
    choose_first_of(answer, tuned_before(kernels, config, budget, machine).plans);
  }
  const std::optional<Explanation> explanation =
      options.explain ? std::optional(explain(kernels, config, budget)) : std::nullopt;
  if (options.json) {
    nlohmann::ordered_json json = to_json(answer, config);
    if (explanation) json["explanation"] = to_json(*explanation);
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}", to_text(answer, config, options.all));
    if (explanation) fmt::print("\n{}", to_text(*explanation));
  }
  if (answer.chosen) return;
  const Prediction configured = predict(kernels, config, configured_plan(config), budget);
  throw OutOfMemoryError(configured.failure.value_or(OutOfMemoryError::Facts{}),
                         to_text(advise(kernels, config, budget)));
}

}  // namespace

Command add_plan(CLI::App& app) {
  const auto options = std::make_shared<PlanOptions>();
  app.add_flag("--json", options->json, "print JSON");
  app.add_flag("--all", options->all, "also plans that are slower and need no less");
  app.add_flag("--explain", options->explain,
               "what takes the memory, what each single change would save, rules of thumb");
  app.add_option("--bench", options->bench, "points that bench kept elsewhere")
      ->allow_extra_args(false)
      ->type_name("FILE");
  add_plan_as(app, options->as);
  add_config_options(app, options->config);
  return [options] { run(*options); };
}

}  // namespace gpt2train
