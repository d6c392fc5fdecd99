#include "gpt2train/train/metrics_csv.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "gpt2train/core/error.h"
#include "gpt2train/train/history.h"

namespace gpt2train {
namespace {

constexpr const char* kCsvHeader =
    "step,loss,lr,grad_norm,step_ms,tokens_per_second,mfu,micro_batch,accumulation,allocated_bytes,"
    "peak_bytes,train_loss,val_loss";
constexpr const char* kNoStep = ",,,,,,,,,,";  // the cells between step and train_loss

std::string csv_cell(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "";
}

std::string csv_losses(const EvalEvent& event) {
  return csv_cell(event.train_loss) + ',' + csv_cell(event.val_loss);
}

}  // namespace

CsvRows::CsvRows(const std::string& path) : file_(std::fopen(path.c_str(), "we")) {
  if (!file_) throw CheckpointError(path, concat("cannot be written: ", std::strerror(errno)));
  put(kCsvHeader);
}

void CsvRows::put(const std::string& row) {
  std::fputs((row + '\n').c_str(), file_.get());
  std::fflush(file_.get());
}

void CsvRows::put_evaluation() {
  if (evaluation_) put(concat(evaluation_->step, kNoStep, ',', csv_losses(*evaluation_)));
  evaluation_.reset();
}

void CsvRows::on_step(const StepEvent& event) {
  if (evaluation_ && evaluation_->step != event.step) put_evaluation();
  put(fmt::format("{},{},{},{},{},{},{},{},{},{},{},{}", event.step, csv_cell(event.loss),
                  csv_cell(event.learning_rate), csv_cell(event.grad_norm),
                  csv_cell(event.step_seconds * 1e3), csv_cell(event.tokens_per_second),
                  event.mfu > 0.0 ? csv_cell(event.mfu) : "", event.plan.micro_batch,
                  event.plan.accumulation, event.allocated_bytes, event.peak_bytes,
                  evaluation_ ? csv_losses(*evaluation_) : ","));
  evaluation_.reset();
}

// A resumed run repeats the evaluation that its checkpoint was written after.
void CsvRows::on_evaluation(const EvalEvent& event) {
  if (evaluation_ && evaluation_->step != event.step) put_evaluation();
  evaluation_ = event;
}

void CsvRows::on_end(const EndEvent&) {
  put_evaluation();
}

void MetricsCsv::on_plan(const PlanEvent&) {
  rows_.emplace(out_dir_ + "/metrics.csv");
  read_metrics(out_dir_ + "/metrics.jsonl", *rows_);
}

void MetricsCsv::on_step(const StepEvent& event) {
  rows_->on_step(event);
}

void MetricsCsv::on_evaluation(const EvalEvent& event) {
  rows_->on_evaluation(event);
}

void MetricsCsv::on_end(const EndEvent& event) {
  rows_->on_end(event);
}

}  // namespace gpt2train
