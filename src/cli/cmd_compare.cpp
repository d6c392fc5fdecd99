// `gpt2train compare RUN...`: runs beside each other.
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gpt2train/core/error.h"
#include "src/cli/commands.h"
#include "src/cli/compare.h"

namespace gpt2train {
namespace {

struct CompareOptions {
  std::vector<std::string> runs;
  std::string svg;
  bool json = false;
};

void run(const CompareOptions& options) {
  std::vector<NamedRun> runs;
  for (const std::string& path : options.runs) runs.push_back(read_run(path));
  if (!options.svg.empty()) {
    std::ofstream file(options.svg, std::ios::binary);
    file << to_svg(compare_plot(runs));
    file.close();
    if (!file) {
      throw DataError(options.svg, concat("cannot be written: ", std::strerror(errno)));
    }
  }
  if (options.json) {
    fmt::print("{}\n",
               compare_json(runs).dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("{}", compare_text(runs));
  }
}

}  // namespace

Command add_compare(CLI::App& app) {
  const auto options = std::make_shared<CompareOptions>();
  app.add_option("RUN", options->runs, "directories of runs, or files like their metrics.jsonl")
      ->required();
  app.add_option("--svg", options->svg, "plot the losses, one over the other")->type_name("FILE");
  app.add_flag("--json", options->json, "print JSON");
  return [options] { run(*options); };
}

}  // namespace gpt2train
