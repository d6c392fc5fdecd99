// metrics.jsonl back to events. Twice over the file: a step that comes again, after the run was
// resumed from an older checkpoint, takes back all that was told from that step on.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "gpt2train/train/history.h"

namespace gpt2train {
namespace {

using LineJson = nlohmann::ordered_json;

// What `json` has under `name`, or what `value` is: files of other versions have less.
template <class Value>
void get(const LineJson& json, const char* name, Value& value) {
  const auto found = json.find(name);
  if (found != json.end() && !found->is_null()) value = found->template get<Value>();
}

TagBytes categories_of(const LineJson& json) {
  TagBytes bytes = {};
  for (std::size_t tag = 0; tag < kTagCount; ++tag) {
    get(json, name_of(static_cast<Tag>(tag)), bytes[tag]);
  }
  return bytes;
}

Plan plan_of(const LineJson& json) {
  Plan plan;
  get(json, "micro_batch", plan.micro_batch);
  get(json, "accumulation", plan.accumulation);
  get(json, "recompute_layers", plan.block_layers);
  std::string level;
  get(json, "recompute", level);
  for (const Recompute each : kRecomputeLevels) {
    if (level == name_of(each)) plan.recompute = each;
  }
  return plan;
}

StartEvent start_of(const LineJson& json) {
  StartEvent event;
  get(json, "unix_seconds", event.unix_seconds);
  get(json, "version", event.version);
  get(json, "backend", event.backend);
  get(json, "device", event.device);
  get(json, "parameters", event.parameters);
  get(json, "tokens_per_step", event.tokens_per_step);
  get(json, "last_step", event.last_step);
  get(json, "resumed", event.resumed);
  if (const auto settings = json.find("settings"); settings != json.end()) {
    for (const auto& [path, value] : settings->items()) {
      event.settings.emplace_back(path, value.get<std::string>());
    }
  }
  return event;
}

class Reader {
 public:
  Reader(TrainObserver& observer, std::string path) : observer_(observer), path_(std::move(path)) {}

  void read() {
    for_each_line(
        [&](const LineJson& json, const std::string& event) { find_rewind(json, event); });
    for (std::size_t i = rewinds_.size(); i-- > 1;) {
      rewinds_[i - 1].step = std::min(rewinds_[i - 1].step, rewinds_[i].step);
    }
    for_each_line([&](const LineJson& json, const std::string& event) { tell(json, event); });
  }

 private:
  struct Rewind {
    std::int64_t line;  // before which
    std::int64_t step;  // this step and later ones count no more
  };

  template <class Use>
  void for_each_line(const Use& use) {
    std::ifstream file(path_);
    if (!file) throw DataError(path_, "cannot be read");
    std::string text;
    line_ = step_ = 0;
    while (std::getline(file, text)) {
      ++line_;
      const LineJson json = LineJson::parse(text, nullptr, false);
      if (!json.is_object()) continue;
      try {
        std::string event;
        get(json, "event", event);
        use(json, event);
      } catch (const LineJson::exception&) {
        continue;  // a number where a text should be: of another program
      }
    }
  }

  void find_rewind(const LineJson& json, const std::string& event) {
    if (event != "step" && event != "eval" && event != "plan") return;
    if (!json.contains("step")) return;
    std::int64_t step = 0;
    get(json, "step", step);
    if (seen_ && step <= *seen_) rewinds_.push_back({.line = line_, .step = step});
    if (event == "step") {
      seen_ = step;
    } else if (seen_) {
      seen_ = std::min(*seen_, step - 1);
    }
  }

  bool superseded(std::int64_t step) const {
    const auto next = std::find_if(rewinds_.begin(), rewinds_.end(),
                                   [&](const Rewind& rewind) { return rewind.line > line_; });
    return next != rewinds_.end() && next->step <= step;
  }

  void tell(const LineJson& json, const std::string& event) {
    get(json, "step", step_);
    if (event == "start") return observer_.on_start(start_of(json));
    if (event == "end") return tell_end(json);
    if (superseded(step_)) return;
    if (event == "plan") return tell_plan(json);
    if (event == "step") return tell_step(json);
    if (event == "eval") return tell_evaluation(json);
    if (event == "out_of_memory") return tell_out_of_memory(json);
    if (event == "grow") return tell_grow(json);
  }

  void tell_plan(const LineJson& json) {
    PlanEvent event{.step = step_, .plan = plan_of(json)};
    event.budget_bytes = CachingAllocator::kNoBudget;
    get(json, "budget_bytes", event.budget_bytes);
    get(json, "lowered", event.lowered);
    get(json, "tuned", event.tuned);
    get(json, "predicted_peak_bytes", event.prediction.stats.peak_allocated_bytes);
    observer_.on_plan(event);
  }

  void tell_step(const LineJson& json) {
    StepEvent event{.step = step_, .plan = plan_of(json)};
    event.loss = event.grad_norm = std::numeric_limits<double>::quiet_NaN();  // null in JSON
    get(json, "loss", event.loss);
    get(json, "lr", event.learning_rate);
    get(json, "grad_norm", event.grad_norm);
    get(json, "skipped", event.skipped);
    get(json, "loss_scale", event.loss_scale);
    get(json, "step_ms", event.step_seconds);
    event.step_seconds /= 1e3;
    get(json, "tokens_per_second", event.tokens_per_second);
    get(json, "mfu", event.mfu);
    get(json, "allocated_bytes", event.allocated_bytes);
    get(json, "peak_bytes", event.peak_bytes);
    if (json.contains("peak_by_category")) categories_ = categories_of(json["peak_by_category"]);
    event.peak_by_category = categories_;
    observer_.on_step(event);
  }

  void tell_evaluation(const LineJson& json) {
    EvalEvent event{.step = step_};
    event.train_loss = event.val_loss = std::numeric_limits<double>::quiet_NaN();
    get(json, "train_loss", event.train_loss);
    get(json, "val_loss", event.val_loss);
    get(json, "seconds", event.seconds);
    get(json, "sample", event.sample);
    observer_.on_evaluation(event);
  }

  void tell_out_of_memory(const LineJson& json) {
    OutOfMemoryEvent event{.step = step_};
    get(json, "tensor", event.facts.tensor);
    get(json, "shape", event.facts.shape);
    get(json, "dtype", event.facts.dtype);
    get(json, "requested_bytes", event.facts.requested_bytes);
    get(json, "in_use_bytes", event.facts.in_use_bytes);
    get(json, "cached_bytes", event.facts.cached_bytes);
    get(json, "largest_free_block_bytes", event.facts.largest_free_block_bytes);
    get(json, "budget_bytes", event.facts.budget_bytes);
    get(json, "scope", event.facts.scope);
    if (json.contains("from")) event.from = plan_of(json["from"]);
    if (json.contains("to")) event.to = plan_of(json["to"]);
    const Plan to = plan_of(json);
    event.to.recompute = to.recompute;
    event.to.block_layers = to.block_layers;
    observer_.on_out_of_memory(event);
  }

  void tell_grow(const LineJson& json) {
    GrowEvent event{.step = step_};
    if (json.contains("from")) event.from = plan_of(json["from"]);
    if (json.contains("to")) event.to = plan_of(json["to"]);
    get(json, "budget_bytes", event.budget_bytes);
    observer_.on_grow(event);
  }

  void tell_end(const LineJson& json) {
    EndEvent event{.step = step_, .plan = plan_of(json)};
    get(json, "seconds", event.seconds);
    get(json, "interrupted", event.interrupted);
    get(json, "predicted_peak_bytes", event.prediction.stats.peak_allocated_bytes);
    get(json, "peak_bytes", event.stats.peak_allocated_bytes);
    get(json, "reserved_bytes", event.stats.peak_reserved_bytes);
    get(json, "resident_bytes", event.resident_bytes);
    if (json.contains("peak_by_category")) {
      event.stats.by_tag_at_peak = categories_of(json["peak_by_category"]);
    }
    observer_.on_end(event);
  }

  TrainObserver& observer_;
  const std::string path_;
  std::int64_t line_ = 0, step_ = 0;
  std::optional<std::int64_t> seen_;  // the newest step, while rewinds are looked for
  std::vector<Rewind> rewinds_;       // in order
  TagBytes categories_ = {};
};

}  // namespace

void read_metrics(const std::string& path, TrainObserver& observer) {
  Reader(observer, path).read();
}

}  // namespace gpt2train
