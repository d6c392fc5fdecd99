// run_page.inc has the page, run_charts.inc draws it, src/memory/page what other pages have, too.
#include "gpt2train/train/run_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "gpt2train/core/units.h"
#include "src/memory/page/page.h"

namespace gpt2train {
namespace {

constexpr std::string_view kRunPage =
#include "src/train/run_page.inc"
    ;
constexpr std::string_view kRunCharts =
#include "src/train/run_charts.inc"
    ;
constexpr std::string_view kRunDataMark = "/*DATA*/";
constexpr std::size_t kMostEvaluations = 1000;  // on a page; more than it has pixels
constexpr std::size_t kMostSamples = 50;        // the newest

// A JSON list of what `write(out, item)` makes of each item.
template <class List, class Write>
std::string json_list(const List& list, const Write& write) {
  fmt::memory_buffer out;
  const auto at = std::back_inserter(out);
  for (const auto& item : list) {
    if (out.size() > 0) fmt::format_to(at, ",\n");
    write(at, item);
  }
  return fmt::format("[{}]", std::string_view(out.data(), out.size()));
}

std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6g}", value) : "null";
}

std::string numbers(const ValueRange& range) {
  if (range.count == 0) return "null,null,null";
  return fmt::format("{:.6g},{:.6g},{:.6g}", range.mean(), range.low, range.high);
}

using Cells = std::vector<std::string>;

std::string cells_json(const std::vector<Cells>& rows) {
  return json_list(rows, [](auto at, const Cells& row) {
    fmt::format_to(at, "[");
    for (std::size_t i = 0; i < row.size(); ++i) {
      fmt::format_to(at, "{}{}", i > 0 ? "," : "", json_string(row[i]));
    }
    fmt::format_to(at, "]");
  });
}

// ---- the figures on top -------------------------------------------------------------------------

Cells validation_tile(const RunRecord& record) {
  const EvalEvent* const best = record.best();
  if (best == nullptr) return {"validation loss", "none yet", ""};
  const EvalEvent& newest = record.evaluations.back();
  return {"validation loss", fmt::format("{:.4f}", newest.val_loss),
          best->step == newest.step
              ? std::string("the lowest so far")
              : fmt::format("lowest {:.4f}, step {}", best->val_loss, with_commas(best->step))};
}

Cells steps_tile(const RunRecord& record) {
  const std::int64_t done = record.steps_done();
  if (!record.start) return {"steps", with_commas(done), ""};
  return {"steps", with_commas(done),
          fmt::format("of {}; {} tokens", with_commas(record.start->last_step),
                      human_count(done * record.start->tokens_per_step))};
}

Cells speed_tile(const RunRecord& record) {
  const double mfu = record.last ? record.last->mfu : 0.0;
  return {"tokens a second",
          record.last ? with_commas(std::llround(record.last->tokens_per_second)) : "none yet",
          mfu > 0.0 ? fmt::format("MFU {:.1f} %", mfu * 100.0) : ""};
}

Cells time_tile(const RunRecord& record) {
  std::string left;
  if (!record.end && record.start && record.last) {
    const double step = record.step_seconds / static_cast<double>(record.steps_done());
    const std::int64_t steps = record.start->last_step - record.steps_done();
    if (steps > 0) left = human_seconds(step * static_cast<double>(steps)) + " left";
  }
  return {"time in steps", human_seconds(record.step_seconds), left};
}

Cells memory_tile(const RunRecord& record) {
  const std::size_t budget = record.memory.empty() ? 0 : record.memory.back().budget_bytes;
  std::string note = budget > 0 ? "of a budget of " + human_bytes(budget) : "";
  if (record.end && record.end->prediction.stats.peak_allocated_bytes > 0) {
    const std::size_t predicted = record.end->prediction.stats.peak_allocated_bytes;
    const bool equal = predicted == record.end->stats.peak_allocated_bytes;
    note += (note.empty() ? "" : "; ") +
            (equal ? "as predicted" : "predicted " + human_bytes(predicted));
  }
  const std::size_t peak = record.end    ? record.end->stats.peak_allocated_bytes
                           : record.last ? record.last->peak_bytes
                                         : 0;
  return {"peak memory", human_bytes(peak), note};
}

std::vector<Cells> tiles_of(const RunRecord& record) {
  std::vector<Cells> tiles = {validation_tile(record)};
  if (record.last) {
    tiles.push_back(
        {"training loss", fmt::format("{:.4f}", record.last->loss), "of the last step"});
  }
  tiles.push_back(steps_tile(record));
  tiles.push_back(speed_tile(record));
  tiles.push_back(time_tile(record));
  tiles.push_back(memory_tile(record));
  return tiles;
}

// ---- the data -----------------------------------------------------------------------------------

std::vector<Cells> machine_of(const RunRecord& record) {
  if (!record.start) return {};
  const StartEvent& start = *record.start;
  std::vector<Cells> rows = {{"backend", start.backend},
                             {"device", start.device},
                             {"program", "gpt2train " + start.version},
                             {"model", human_count(start.parameters) + " parameters"},
                             {"tokens a step", with_commas(start.tokens_per_step)}};
  if (record.end && record.end->resident_bytes > 0) {
    rows.push_back({"resident, whole process", human_bytes(record.end->resident_bytes)});
  }
  if (record.skipped > 0) rows.push_back({"skipped updates", with_commas(record.skipped)});
  return rows;
}

// Where there are very many, some of them; always the newest.
std::vector<EvalEvent> evaluations_of(const RunRecord& record) {
  const std::vector<EvalEvent>& all = record.evaluations;
  const std::size_t every = 1 + all.size() / kMostEvaluations;
  std::vector<EvalEvent> some;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i % every == 0 || i + 1 == all.size()) some.push_back(all[i]);
  }
  return some;
}

std::string grad_clip_of(const StartEvent& start) {
  for (const auto& [path, value] : start.settings) {
    if (path == "optimizer.grad_clip") return value;
  }
  return "0";
}

std::string data_of(const RunRecord& record, const PageFacts& facts) {
  std::vector<Cells> settings;
  if (record.start) {
    for (const auto& [path, value] : record.start->settings) settings.push_back({path, value});
  }
  std::string tags;
  for (std::size_t tag = 0; tag < kTagCount; ++tag) {
    tags += (tag > 0 ? "," : "") + json_string(name_of(static_cast<Tag>(tag)));
  }
  const auto write_steps = [](auto at, const StepSpan& span) {
    fmt::format_to(at, "[{},{}", span.first, span.last);
    for (const ValueRange& range : span.values) fmt::format_to(at, ",{}", numbers(range));
    fmt::format_to(at, "]");
  };
  const auto write_evaluation = [](auto at, const EvalEvent& each) {
    fmt::format_to(at, "[{},{},{}]", each.step, number(each.train_loss), number(each.val_loss));
  };
  std::vector<std::pair<std::int64_t, std::string_view>> samples;
  for (const EvalEvent& each : record.evaluations) {
    if (!each.sample.empty()) samples.emplace_back(each.step, each.sample);
  }
  if (samples.size() > kMostSamples) samples.erase(samples.begin(), samples.end() - kMostSamples);
  const auto write_text = [](auto at, const auto& each) {
    fmt::format_to(at, "[{},{}]", each.first, json_string(each.second));
  };
  const auto write_memory = [](auto at, const MemorySpan& span) {
    fmt::format_to(at, "[{},{}", span.step, span.budget_bytes);
    for (const std::size_t bytes : span.peak_by_category) fmt::format_to(at, ",{}", bytes);
    fmt::format_to(at, "]");
  };
  const auto write_occurrence = [](auto at, const Occurrence& each) {
    fmt::format_to(at, "[{},{},{}]", each.step, json_string(each.text), each.out_of_memory);
  };
  return fmt::format(
      "{{\"name\":{},\"state\":{},\"written\":{},\"budget\":{},\"grad_clip\":{},\n\"tiles\":{},\n"
      "\"tags\":[{}],\n\"steps\":{},\n\"evaluations\":{},\n\"memory\":{},\n\"occurrences\":{},\n"
      "\"samples\":{},\n\"machine\":{},\n\"settings\":{}}}",
      json_string(facts.name), json_string(facts.state), facts.unix_seconds,
      record.memory.empty() ? 0 : record.memory.back().budget_bytes,
      record.start ? grad_clip_of(*record.start) : "0", cells_json(tiles_of(record)), tags,
      json_list(record.steps, write_steps), json_list(evaluations_of(record), write_evaluation),
      json_list(record.memory, write_memory), json_list(record.occurrences, write_occurrence),
      json_list(samples, write_text), cells_json(machine_of(record)), cells_json(settings));
}

}  // namespace

std::string run_page(const RunRecord& record, const PageFacts& facts) {
  const std::size_t mark = kRunPage.find(kRunDataMark);
  std::string page = page_begin(facts.name + " - gpt2train");
  page += kRunPage.substr(0, mark);
  page += data_of(record, facts);
  page += kRunPage.substr(mark + kRunDataMark.size());
  page += page_script();
  page += kRunCharts;
  return page;
}

RunPage::RunPage(std::string out_dir) : out_dir_(std::move(out_dir)) {}

RunPage::~RunPage() {
  if (begun_ && !ended_) write("ended by an error");
}

void RunPage::write(const char* state) const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::string path = out_dir_ + "/run.html", beside = path + ".new";
  std::ofstream file(beside, std::ios::binary);
  file << run_page(history_.record(),
                   {.name = out_dir_,
                    .state = state,
                    .unix_seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count()});
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(beside, path, error);
  if (!file || error) std::filesystem::remove(beside, error);
}

void RunPage::on_plan(const PlanEvent&) {
  history_ = {};
  read_metrics(out_dir_ + "/metrics.jsonl", history_);
  begun_ = true;
  write("running");
}

void RunPage::on_step(const StepEvent& event) {
  history_.on_step(event);
}

void RunPage::on_evaluation(const EvalEvent& event) {
  history_.on_evaluation(event);
  write("running");
}

void RunPage::on_out_of_memory(const OutOfMemoryEvent& event) {
  history_.on_out_of_memory(event);
}

void RunPage::on_grow(const GrowEvent& event) {
  history_.on_grow(event);
}

void RunPage::on_end(const EndEvent& event) {
  history_.on_end(event);
  ended_ = true;
  write(event.interrupted ? "interrupted" : "done");
}

}  // namespace gpt2train
