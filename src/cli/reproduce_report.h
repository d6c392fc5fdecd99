// What `reproduce` shows of a scenario; `run` is null where nothing was run.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "src/cli/reproduction.h"
#include "src/cli/scenario_run.h"

namespace gpt2train {

nlohmann::ordered_json to_json(const Scenario& scenario, const Reproduction& found,
                               const ScenarioRun* run);
std::string to_text(const Scenario& scenario, const Reproduction& found, const ScenarioRun* run);

// A row of a table, and what is above the rows.
std::string to_markdown(const Scenario& scenario, const Reproduction& found,
                        const ScenarioRun* run);
std::string markdown_head(bool with_runs);

}  // namespace gpt2train
