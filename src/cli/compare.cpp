#include "src/cli/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kUnknown = "-";

// What is compared of a run; empty where it is not known.
struct Figures {
  std::optional<double> val_loss = {}, best_val_loss = {}, train_loss = {};
  std::optional<std::int64_t> best_step = {}, tokens = {};
  std::int64_t steps = 0;
  double step_seconds = 0.0;
  std::optional<double> tokens_per_second = {};
  std::size_t peak_bytes = 0;
  const char* state = "";
};

// Over the last steps, a fiftieth of all: one alone says little.
std::optional<double> last_train_loss(const RunRecord& record) {
  ValueRange loss;
  const auto enough = static_cast<std::int64_t>(record.steps.size() / 50);
  for (auto span = record.steps.rbegin(); span != record.steps.rend(); ++span) {
    loss.add((*span)[Quantity::kLoss]);
    if (span - record.steps.rbegin() >= enough) break;
  }
  if (loss.count == 0) return std::nullopt;
  return loss.mean();
}

std::int64_t steps_seen(const RunRecord& record) {
  std::int64_t count = 0;
  for (const StepSpan& span : record.steps) count += span.count;
  return count;
}

Figures figures_of(const RunRecord& record) {
  Figures figures{.train_loss = last_train_loss(record),
                  .steps = record.steps_done(),
                  .step_seconds = record.step_seconds,
                  .peak_bytes = record.peak_bytes,
                  .state = !record.end               ? "not ended"
                           : record.end->interrupted ? "interrupted"
                                                     : "done"};
  if (const EvalEvent* const best = record.best()) {
    figures.val_loss = record.evaluations.back().val_loss;
    figures.best_val_loss = best->val_loss;
    figures.best_step = best->step;
  }
  if (record.start) {
    figures.tokens = figures.steps * record.start->tokens_per_step;
    if (record.step_seconds > 0.0) {
      figures.tokens_per_second =
          static_cast<double>(steps_seen(record) * record.start->tokens_per_step) /
          record.step_seconds;
    }
  }
  return figures;
}

std::string loss_text(const std::optional<double>& loss) {
  return loss ? fmt::format("{:.4f}", *loss) : kUnknown;
}
std::string count_text(const std::optional<std::int64_t>& count) {
  return count ? with_commas(*count) : kUnknown;
}

// Of the newest start: a resumed run may have got others.
std::string setting_of(const NamedRun& run, const std::string& path) {
  if (!run.record.start) return kUnknown;
  for (const auto& [name, value] : run.record.start->settings) {
    if (name == path) return value.empty() ? "\"\"" : value;
  }
  return kUnknown;
}

template <class Value>
Json or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// Tokens a step where runs differ in it, and all of them say so.
bool over_tokens(const std::vector<NamedRun>& runs) {
  const auto size = [](const NamedRun& run) {
    return run.record.start ? run.record.start->tokens_per_step : 0;
  };
  const bool known =
      std::all_of(runs.begin(), runs.end(), [&](auto& run) { return size(run) > 0; });
  return known && std::any_of(runs.begin(), runs.end(),
                              [&](auto& run) { return size(run) != size(runs.front()); });
}

}  // namespace

NamedRun read_run(const std::string& path) {
  const bool directory = std::filesystem::is_directory(path);
  const std::string file = directory ? path + "/metrics.jsonl" : path;
  RunHistory history;
  read_metrics(file, history);
  NamedRun run{.name = path, .record = history.record()};
  if (run.record.steps.empty() && run.record.evaluations.empty()) {
    throw DataError(file, "tells of no step and no evaluation");
  }
  return run;
}

SettingRows differing_settings(const std::vector<NamedRun>& runs) {
  std::vector<std::string> paths;  // of all runs, in the order of the first that has them
  for (const NamedRun& run : runs) {
    if (!run.record.start) continue;
    for (const auto& [path, value] : run.record.start->settings) {
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
    }
  }
  SettingRows rows;
  for (const std::string& path : paths) {
    if (path == "out_dir") continue;
    std::vector<std::string> values;
    for (const NamedRun& run : runs) values.push_back(setting_of(run, path));
    const bool same = std::all_of(values.begin(), values.end(), [&](const std::string& value) {
      return value == values.front();
    });
    if (!same) rows.emplace_back(path, std::move(values));
  }
  return rows;
}

std::string compare_text(const std::vector<NamedRun>& runs) {
  SettingRows rows = {{"", {}},
                      {"validation loss", {}},
                      {"  the lowest", {}},
                      {"  at step", {}},
                      {"training loss", {}},
                      {"steps", {}},
                      {"tokens", {}},
                      {"time in steps", {}},
                      {"tokens/s", {}},
                      {"peak memory", {}},
                      {"the run is", {}}};
  for (const NamedRun& run : runs) {
    const Figures figures = figures_of(run.record);
    const std::string cells[] = {run.name,
                                 loss_text(figures.val_loss),
                                 loss_text(figures.best_val_loss),
                                 count_text(figures.best_step),
                                 loss_text(figures.train_loss),
                                 with_commas(figures.steps),
                                 figures.tokens ? human_count(*figures.tokens) : kUnknown,
                                 human_seconds(figures.step_seconds),
                                 figures.tokens_per_second
                                     ? with_commas(std::llround(*figures.tokens_per_second))
                                     : kUnknown,
                                 human_bytes(figures.peak_bytes),
                                 figures.state};
    for (std::size_t row = 0; row < rows.size(); ++row) rows[row].second.push_back(cells[row]);
  }
  const SettingRows settings = differing_settings(runs);
  if (!settings.empty()) rows.push_back({"settings that differ", {}});
  for (const auto& [path, values] : settings) rows.emplace_back("  " + path, values);

  std::size_t name_width = 0;
  std::vector<std::size_t> widths(runs.size());
  for (const auto& [name, cells] : rows) {
    name_width = std::max(name_width, name.size());
    for (std::size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  }
  std::string text;
  for (const auto& [name, cells] : rows) {
    text += cells.empty() ? name : fmt::format("{:<{}}", name, name_width);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      text += fmt::format("  {:>{}}", cells[i], widths[i]);
    }
    text += '\n';
  }
  return text;
}

Json compare_json(const std::vector<NamedRun>& runs) {
  Json json = {{"runs", Json::array()}, {"settings_that_differ", Json::object()}};
  for (const NamedRun& run : runs) {
    const Figures figures = figures_of(run.record);
    Json settings = Json::object();
    if (run.record.start) {
      for (const auto& [path, value] : run.record.start->settings) settings[path] = value;
    }
    json["runs"].push_back({{"run", run.name},
                            {"state", figures.state},
                            {"steps", figures.steps},
                            {"tokens", or_null(figures.tokens)},
                            {"val_loss", or_null(figures.val_loss)},
                            {"best_val_loss", or_null(figures.best_val_loss)},
                            {"best_step", or_null(figures.best_step)},
                            {"train_loss", or_null(figures.train_loss)},
                            {"step_seconds", figures.step_seconds},
                            {"tokens_per_second", or_null(figures.tokens_per_second)},
                            {"peak_bytes", figures.peak_bytes},
                            {"settings", settings}});
  }
  for (const auto& [path, values] : differing_settings(runs)) {
    json["settings_that_differ"][path] = values;
  }
  return json;
}

CurvePlot compare_plot(const std::vector<NamedRun>& runs) {
  const bool tokens = over_tokens(runs);
  CurvePlot plot{.title = "Loss",
                 .subtitle = fmt::format("{} run{}", runs.size(), runs.size() == 1 ? "" : "s"),
                 .x_label = tokens ? "tokens, in millions" : "step",
                 .y_label = "loss",
                 .often_label = "of steps",
                 .seldom_label = "validation"};
  for (const NamedRun& run : runs) {
    const double unit = tokens ? static_cast<double>(run.record.start->tokens_per_step) / 1e6 : 1.0;
    PlotCurve curve{.name = run.name};
    for (const StepSpan& span : run.record.steps) {
      const ValueRange& loss = span[Quantity::kLoss];
      const double middle = static_cast<double>(span.first + span.last) / 2.0;
      if (loss.count > 0) curve.often.emplace_back(middle * unit, loss.mean());
    }
    for (const EvalEvent& each : run.record.evaluations) {
      if (!std::isfinite(each.val_loss)) continue;
      curve.seldom.emplace_back(static_cast<double>(each.step) * unit, each.val_loss);
    }
    plot.curves.push_back(std::move(curve));
  }
  return plot;
}

}  // namespace gpt2train
