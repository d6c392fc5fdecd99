#include "gpt2train/train/metrics.h"

#include <cerrno>
#include <cstring>

#include "gpt2train/core/error.h"
#include "src/train/json.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

Json plan_json(const Plan& plan) {
  return {{"micro_batch", plan.micro_batch}, {"accumulation", plan.accumulation}};
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path, Mode mode)
    : file_(std::fopen(path.c_str(), mode == Mode::kAppend ? "ae" : "we")) {
  if (!file_) throw CheckpointError(path, concat("cannot be written: ", std::strerror(errno)));
}

void MetricsFile::write(const std::string& line) {
  std::fputs((line + '\n').c_str(), file_.get());
  std::fflush(file_.get());  // a line that a full disk swallows is not worth a run
}

void MetricsFile::on_start(const StartEvent& event) {
  Json settings = Json::object();
  for (const auto& [path, value] : event.settings) settings[path] = value;
  write(Json{{"event", "start"},
             {"unix_seconds", event.unix_seconds},
             {"version", event.version},
             {"backend", event.backend},
             {"device", event.device},
             {"parameters", event.parameters},
             {"tokens_per_step", event.tokens_per_step},
             {"last_step", event.last_step},
             {"resumed", event.resumed},
             {"settings", settings}}
            .dump(-1, ' ', false, Json::error_handler_t::replace));  // of paths in other encodings
}

void MetricsFile::on_plan(const PlanEvent& event) {
  Json json = {{"event", "plan"}, {"step", event.step}};
  json.update(to_json(event.plan));
  json["lowered"] = event.lowered;
  if (event.tuned) json["tuned"] = true;
  if (event.budget_bytes != CachingAllocator::kNoBudget) json["budget_bytes"] = event.budget_bytes;
  json["fits"] = event.prediction.fits();
  json["predicted_peak_bytes"] = event.prediction.stats.peak_allocated_bytes;
  json["predicted_reserved_bytes"] = event.prediction.stats.peak_reserved_bytes;
  if (event.prediction.host_bytes > 0) json["predicted_host_bytes"] = event.prediction.host_bytes;
  json["peak_by_category"] = to_json(event.prediction.stats.by_tag_at_peak);
  write(json.dump());
}

void MetricsFile::on_step(const StepEvent& event) {
  Json json = {{"event", "step"},
               {"step", event.step},
               {"loss", event.loss},
               {"lr", event.learning_rate},
               {"grad_norm", event.grad_norm},
               {"step_ms", event.step_seconds * 1e3},
               {"tokens_per_second", event.tokens_per_second},
               {"mfu", event.mfu > 0.0 ? Json(event.mfu) : Json(nullptr)},
               {"micro_batch", event.plan.micro_batch},
               {"accumulation", event.plan.accumulation},
               {"allocated_bytes", event.allocated_bytes},
               {"peak_bytes", event.peak_bytes}};
  if (event.peak_by_category != peak_by_category_) {  // with the plan, and not from step to step
    peak_by_category_ = event.peak_by_category;
    json["peak_by_category"] = to_json(event.peak_by_category);
  }
  if (event.skipped) json["skipped"] = true;
  if (event.loss_scale != 1.0) json["loss_scale"] = event.loss_scale;
  write(json.dump());
}

void MetricsFile::on_evaluation(const EvalEvent& event) {
  Json json = {{"event", "eval"},
               {"step", event.step},
               {"train_loss", event.train_loss},
               {"val_loss", event.val_loss},
               {"seconds", event.seconds}};
  if (!event.sample.empty()) json["sample"] = event.sample;
  write(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void MetricsFile::on_out_of_memory(const OutOfMemoryEvent& event) {
  const OutOfMemoryError::Facts& facts = event.facts;
  write(Json{{"event", "out_of_memory"},
             {"step", event.step},
             {"tensor", facts.tensor},
             {"shape", facts.shape},
             {"dtype", facts.dtype},
             {"requested_bytes", facts.requested_bytes},
             {"in_use_bytes", facts.in_use_bytes},
             {"cached_bytes", facts.cached_bytes},
             {"largest_free_block_bytes", facts.largest_free_block_bytes},
             {"budget_bytes", facts.budget_bytes},
             {"scope", facts.scope},
             {"from", plan_json(event.from)},
             {"to", plan_json(event.to)},
             {"recompute", name_of(event.to.recompute)},
             {"recompute_layers", event.to.block_layers}}
            .dump());
}

void MetricsFile::on_grow(const GrowEvent& event) {
  write(Json{{"event", "grow"},
             {"step", event.step},
             {"from", plan_json(event.from)},
             {"to", plan_json(event.to)},
             {"budget_bytes", event.budget_bytes}}
            .dump());
}

void MetricsFile::on_checkpoint(const CheckpointEvent& event) {
  write(Json{{"event", "checkpoint"},
             {"step", event.step},
             {"path", event.path},
             {"seconds", event.seconds}}
            .dump());
}

void MetricsFile::on_end(const EndEvent& event) {
  Json json = {{"event", "end"}, {"step", event.step}, {"seconds", event.seconds}};
  json.update(to_json(event.plan));
  json["interrupted"] = event.interrupted;
  json["predicted_peak_bytes"] = event.prediction.stats.peak_allocated_bytes;
  json["peak_bytes"] = event.stats.peak_allocated_bytes;
  json["predicted_reserved_bytes"] = event.prediction.stats.peak_reserved_bytes;
  json["reserved_bytes"] = event.stats.peak_reserved_bytes;
  if (event.host_bytes > 0) {
    json["predicted_host_bytes"] = event.prediction.host_bytes;
    json["host_bytes"] = event.host_bytes;
  }
  json["resident_bytes"] = event.resident_bytes;
  json["peak_by_category"] = to_json(event.stats.by_tag_at_peak);
  json["peak_by_phase"] = peaks_by_phase(event.stats);
  write(json.dump());
}

}  // namespace gpt2train
