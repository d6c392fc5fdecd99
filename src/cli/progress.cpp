#include "src/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "gpt2train/core/units.h"
#include "gpt2train/memory/report.h"
#include "src/cli/progress_line.h"
#include "src/cli/terminal.h"

namespace gpt2train {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{100};
constexpr std::chrono::seconds kAskInterval{1};  // NVML takes milliseconds to answer

std::string plan_text(const Plan& plan, const RunConfig& config) {
  return fmt::format("micro-batch {} x accumulation {}, recompute {}", plan.micro_batch,
                     plan.accumulation, recompute_text(plan, config.model));
}

std::string bytes_text(std::size_t bytes) {
  return fmt::format("{} ({} bytes)", human_bytes(bytes),
                     with_commas(static_cast<std::int64_t>(bytes)));
}

}  // namespace

Progress::Progress(const RunConfig& config, const CachingAllocator& memory, const Backend& backend)
    : config_(config), memory_(memory), backend_(backend) {}

Progress::~Progress() {
  clear_bar();
}

void Progress::clear_bar() {
  if (!bar_shown_) return;
  std::fputs("\r\033[K", stdout);
  bar_shown_ = false;
}

void Progress::line(const std::string& text) {
  clear_bar();
  std::fputs((text + '\n').c_str(), stdout);
  std::fflush(stdout);
}

std::optional<std::size_t> Progress::others_bytes() {
  const auto now = std::chrono::steady_clock::now();
  if (now - others_asked_ >= kAskInterval) {
    others_asked_ = now;
    others_bytes_ = bytes_of_others(backend_.processes(), getpid());
  }
  return others_bytes_;
}

void Progress::on_plan(const PlanEvent& event) {
  const MemoryStats& stats = event.prediction.stats;
  line(fmt::format("model: {} parameters, {} layers, {} heads, {} wide, block {}, vocabulary {}",
                   human_count(parameter_count(config_.model)), config_.model.n_layer,
                   config_.model.n_head, config_.model.n_embd, config_.model.block_size,
                   config_.model.vocab_size));
  line(fmt::format("step:  {} sequences, {} tokens", config_.training.effective_batch(),
                   with_commas(config_.training.effective_batch() * config_.model.block_size)));
  line(fmt::format("plan:  {}{}", plan_text(event.plan, config_),
                   event.lowered ? " (lowered to fit the budget)"
                   : event.tuned ? " (by what was measured)"
                                 : ""));
  if (event.prediction.failure) {
    line(fmt::format(
        "       does not fit the budget of {}, as {} {} will show; plan: off starts anyway",
        human_bytes(event.budget_bytes), event.prediction.failure->tensor,
        event.prediction.failure->shape));
  } else {
    line(fmt::format("       predicted peak {}, reserved {}, budget {}",
                     human_bytes(stats.peak_allocated_bytes),
                     human_bytes(stats.peak_reserved_bytes), human_bytes(event.budget_bytes)));
  }
  if (event.prediction.host_bytes > 0) {
    line("       and of host memory " + human_bytes(event.prediction.host_bytes));
  }
}

void Progress::on_step(const StepEvent& event) {
  loss_ = event.loss;
  const double keep = step_seconds_ == 0.0 ? 0.0 : 0.9;
  step_seconds_ = keep * step_seconds_ + (1.0 - keep) * event.step_seconds;
  tokens_per_second_ = keep * tokens_per_second_ + (1.0 - keep) * event.tokens_per_second;
  if (event.skipped) {
    line(fmt::format(
        "iter {}: a gradient is not finite (loss {:.4f}{}); update skipped", event.step, event.loss,
        event.loss_scale == 1.0 ? "" : fmt::format(", loss scale {:g}", event.loss_scale)));
  }
  if (event.step % config_.training.log_interval != 0) return;
  std::string text = fmt::format("iter {}: loss {:.4f}, time {:.2f}ms, {:.0f} tok/s", event.step,
                                 event.loss, event.step_seconds * 1e3, event.tokens_per_second);
  if (event.mfu > 0.0) text += fmt::format(", mfu {:.2f}%", event.mfu * 100.0);
  line(text + fmt::format(", lr {:.3g}, norm {:.3f}, peak {}", event.learning_rate, event.grad_norm,
                          human_bytes(event.peak_bytes)));
}

void Progress::on_progress(const char* what, std::int64_t step, std::int64_t done,
                           std::int64_t of) {
  const std::optional<TerminalSize> terminal = terminal_size();
  const auto now = std::chrono::steady_clock::now();
  if (!terminal || now - drawn_ < kRedrawInterval) return;
  drawn_ = now;
  ProgressLine shown = {.step = step,
                        .last_step = config_.training.max_iters,
                        .what = what,
                        .done = done,
                        .of = of,
                        .in_use_bytes = memory_.stats().allocated_bytes,
                        .peak_bytes = memory_.stats().peak_allocated_bytes,
                        .budget_bytes = memory_.budget_bytes(),
                        .others_bytes = others_bytes()};
  if (step_seconds_ > 0.0) {
    const auto steps_left = static_cast<double>(config_.training.max_iters - step);
    shown.pace = ProgressLine::Pace{.loss = loss_,
                                    .tokens_per_second = tokens_per_second_,
                                    .seconds_left = step_seconds_ * steps_left};
  }
  // A terminal wraps what reaches its last column.
  std::fputs(("\r" + progress_line(shown, terminal->columns - 1) + "\033[K").c_str(), stdout);
  std::fflush(stdout);
  bar_shown_ = true;
}

void Progress::on_evaluation(const EvalEvent& event) {
  line(fmt::format("step {}: train loss {:.4f}, val loss {:.4f}", event.step, event.train_loss,
                   event.val_loss));
  if (!event.sample.empty()) line("---------------\n" + event.sample + "\n---------------");
}

void Progress::on_out_of_memory(const OutOfMemoryEvent& event) {
  line(OutOfMemoryError(event.facts).what());
  line(fmt::format("  going on with {} instead of {}: same samples, same step",
                   plan_text(event.to, config_), plan_text(event.from, config_)));
  line(memory_summary(event.stats, event.counts, event.facts.largest_free_block_bytes));
}

void Progress::on_grow(const GrowEvent& event) {
  line(fmt::format("memory is free again: going on with {} instead of {}, budget {}",
                   plan_text(event.to, config_), plan_text(event.from, config_),
                   human_bytes(event.budget_bytes)));
}

void Progress::on_checkpoint(const CheckpointEvent& event) {
  line(fmt::format("saved {} in {:.1f}s", event.path, event.seconds));
}

void Progress::on_end(const EndEvent& event) {
  line(event.interrupted
           ? fmt::format("interrupted at iteration {}", event.step)
           : fmt::format("done: {} iterations in {}", event.step, human_seconds(event.seconds)));
  line(memory_summary(event.stats, event.counts, event.largest_free_block_bytes));
  const MemoryStats& predicted = event.prediction.stats;
  line("resident, whole process: " + bytes_text(event.resident_bytes));
  line("peak memory, predicted: " + bytes_text(predicted.peak_allocated_bytes));
  line("peak memory, measured:  " + bytes_text(event.stats.peak_allocated_bytes));
  line("reserved,    predicted: " + bytes_text(predicted.peak_reserved_bytes));
  line("reserved,    measured:  " + bytes_text(event.stats.peak_reserved_bytes));
  if (event.host_bytes > 0) {
    line("host memory, predicted: " + bytes_text(event.prediction.host_bytes));
    line("host memory, measured:  " + bytes_text(event.host_bytes));
  }
}

void Progress::on_note(const std::string& text) {
  line(text);
}

}  // namespace gpt2train
