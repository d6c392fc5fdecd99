// Runs beside each other: figures, the settings that differ, curves.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gpt2train/train/history.h"
#include "src/cli/curve_plot.h"

namespace gpt2train {

struct NamedRun {
  std::string name = {};
  RunRecord record = {};
};

// From its directory or its metrics.jsonl, as it is now. Throws DataError where it cannot be read,
// or nothing has happened.
NamedRun read_run(const std::string& path);

// By path, one value a run ("-" where it is not known): what not all of them have in common, less
// out_dir.
using SettingRows = std::vector<std::pair<std::string, std::vector<std::string>>>;
SettingRows differing_settings(const std::vector<NamedRun>& runs);

std::string compare_text(const std::vector<NamedRun>& runs);
nlohmann::ordered_json compare_json(const std::vector<NamedRun>& runs);

// Losses over steps, or over tokens where steps are of different sizes.
CurvePlot compare_plot(const std::vector<NamedRun>& runs);

}  // namespace gpt2train
