// `gpt2train reproduce`: what became of the runs that the notes describe, in nanoGPT and here; with
// --run, they are carried out.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "gpt2train/core/error.h"
#include "src/cli/commands.h"
#include "src/cli/reproduce_report.h"

namespace gpt2train {
namespace {

struct ReproduceOptions {
  bool run = false, json = false, markdown = false;
  std::string device = "auto";
  std::string write;  // a folder for the scenarios' files
};

void write_configs(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const Scenario& scenario : scenarios()) {
    const std::filesystem::path path = folder / fmt::format("{}.yaml", scenario.id);
    std::ofstream file(path);
    file << scenario_yaml(scenario);
    if (!file.flush()) throw DataError(path.string(), "cannot be written");
  }
}

void run(const ReproduceOptions& options) {
  if (!options.write.empty()) return write_configs(options.write);
  nlohmann::ordered_json json = {{"scenarios", nlohmann::ordered_json::array()}};
  const DeviceChoice device = options.device == "cuda"  ? DeviceChoice::kCuda
                              : options.device == "cpu" ? DeviceChoice::kCpu
                                                        : DeviceChoice::kAuto;
  std::string deviating;
  if (options.markdown) fmt::print("{}", markdown_head(options.run));
  for (const Scenario& scenario : scenarios()) {
    const Reproduction found = reproduce(scenario);
    std::optional<ScenarioRun> run;
    if (options.run) {
      run = run_scenario(scenario, found, device);
      if (!run->holds()) deviating += concat(deviating.empty() ? "" : ", ", scenario.id);
    }
    const ScenarioRun* const shown = run ? &*run : nullptr;
    if (options.json) {
      json["scenarios"].push_back(to_json(scenario, found, shown));
    } else {
      fmt::print("{}", options.markdown ? to_markdown(scenario, found, shown)
                                        : to_text(scenario, found, shown));
      std::fflush(stdout);
    }
  }
  if (options.json) fmt::print("{}\n", json.dump(2));
  if (!deviating.empty()) throw InternalError("not as predicted: " + deviating);
}

}  // namespace

Command add_reproduce(CLI::App& app) {
  const auto options = std::make_shared<ReproduceOptions>();
  CLI::Option* const run_flag =
      app.add_flag("--run", options->run,
                   "train each for a step as well: in full on a GPU, reduced to a second on a CPU");
  app.add_option("--device", options->device, "where; auto: as training chooses")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->needs(run_flag);
  CLI::Option* const json = app.add_flag("--json", options->json, "print JSON");
  app.add_flag("--markdown", options->markdown, "print a table for a page")->excludes(json);
  app.add_option("--write", options->write, "write each scenario's settings into this folder");
  return [options] { run(*options); };
}

}  // namespace gpt2train
