#include "gpt2train/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "gpt2train/memory/report.h"
#include "gpt2train/train/advice.h"
#include "gpt2train/train/evaluate.h"
#include "gpt2train/train/load_weights.h"
#include "gpt2train/train/schedule.h"
#include "gpt2train/train/timeline.h"

namespace gpt2train {
namespace {

class Timer {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// Steps from a lowering to the first attempt to undo it; each further lowering doubles them.
constexpr std::int64_t kFirstGrowWait = 20;

}  // namespace

Trainer::Trainer(const TrainerSetup& setup)
    : setup_(setup),
      config_(setup.config),
      plans_(setup.plans.empty() ? candidate_plans(setup.config) : setup.plans),
      memory_(setup.memory),
      pinned_(setup.backend),
      host_memory_(pinned_, CachingAllocator::kNoBudget),
      exec_(setup.kernels, setup.memory, Compute::kRun, setup.backend.stream(),
            {.tf32 = setup.config.tf32, .tune = setup.config.tune_matmul}),
      source_{.tokens = {setup.backend, setup.train_data, setup.config.training.effective_batch(),
                         setup.config.model.block_size},
              .replay = Replay(setup.backend, setup.config.cuda_graphs)} {
  exec_.set_host_memory(&host_memory_);
  position_.seed = config_.seed;
  plan_ = configured_plan(config_);
  if (config_.init_from == "resume") resume();
  if (config_.dtype != DType::kFloat16) {
    position_.loss_scale.reset();
  } else if (!position_.loss_scale) {  // a fresh start, or a checkpoint of another type
    position_.loss_scale.emplace();
  }
  choose_initial_plan();
  try {
    state_ = std::make_unique<ModelState>(exec_, config_.model, precision_of(config_),
                                          Purpose::kTraining, config_.memory.offload);
    load();
  } catch (const OutOfMemoryError& error) {  // weights and moments alone: no plan can help
    tell_memory(error);
    throw OutOfMemoryError(error.facts(),
                           to_text(advise(exec_.kernels(), config_, memory_.budget_bytes())));
  }
}

void Trainer::choose_initial_plan() {
  const Plan wanted = plan_;
  const std::size_t budget = memory_.budget_bytes();
  const bool tuned = !setup_.plans.empty();
  prediction_ = predict(exec_.kernels(), config_, plan_, budget, position_.iteration);
  if (config_.memory.plan == PlanMode::kAuto && (tuned || !prediction_.fits())) {
    const std::optional<PredictedPlan> chosen = first_that_fits();
    if (!chosen) {
      OutOfMemoryError::Facts facts = prediction_.failure.value_or(OutOfMemoryError::Facts{});
      throw OutOfMemoryError(
          std::move(facts),
          concat("no micro-batch fits; ", to_text(advise(exec_.kernels(), config_, budget))));
    }
    plan_ = chosen->plan;
    prediction_ = chosen->prediction;
  }
  // A split that goes on is kept even where another one is faster.
  const bool keeps_split = tuned && split_resumed_ && plan_.micro_batch == wanted.micro_batch;
  if (!(plan_ == wanted) && !keeps_split) grow_wait_ = grow_at_ = kFirstGrowWait;
  setup_.observer.on_plan({.step = position_.iteration,
                           .plan = plan_,
                           .prediction = prediction_,
                           .budget_bytes = budget,
                           .lowered = !tuned && !(plan_ == wanted),
                           .tuned = tuned});
}

std::optional<PredictedPlan> Trainer::first_that_fits() const {
  const auto first_of = [this](const std::vector<Plan>& plans) {
    return choose_plan(exec_.kernels(), config_, plans, memory_.budget_bytes(),
                       position_.iteration);
  };
  if (split_resumed_) {
    std::vector<Plan> same_split;
    std::copy_if(plans_.begin(), plans_.end(), std::back_inserter(same_split),
                 [&](const Plan& plan) { return plan.micro_batch == plan_.micro_batch; });
    if (std::optional<PredictedPlan> chosen = first_of(same_split)) return chosen;
  }
  return first_of(plans_);
}

void Trainer::load() {
  if (config_.init_from == "scratch") {
    state_->initialise(exec_, config_.seed);
  } else if (config_.init_from == "resume") {
    const FoundCheckpoint& found = *resumed_;
    const SafetensorsFile weights(found.path + "/model.safetensors");
    state_->load_weights(exec_, weights, false);
    state_->load_optimizer(exec_, SafetensorsFile(found.path + "/optimizer.safetensors"));
  } else {
    const WeightsFile file = open_weights(find_weights(config_.init_from));
    const FittedWeights weights = fit_weights(file, config_.model);
    for (const std::string& note : weights.notes) setup_.observer.on_note(note);
    state_->load_weights(exec_, weights.tensors, weights.hf_orientation);
  }
}

void Trainer::resume() {
  std::vector<std::string> rejected;
  resumed_ = newest_whole_checkpoint(config_.out_dir, rejected);
  for (const std::string& problem : rejected) setup_.observer.on_note("skipped " + problem);
  position_ = read_train_state(resumed_->path);
  if (position_.seed != config_.seed) {
    throw CheckpointError(resumed_->path, concat("was trained with seed ", position_.seed,
                                                 ", the settings say ", config_.seed));
  }
  setup_.observer.on_note(concat("resuming from ", resumed_->path));
  // The split that was in force sums in the same order, so the losses go on bit for bit.
  if (position_.micro_batch * position_.accumulation == config_.training.effective_batch()) {
    plan_.micro_batch = position_.micro_batch;
    plan_.accumulation = position_.accumulation;
    split_resumed_ = true;
  }
}

StopCheck Trainer::progress(const char* what) const {
  return [this, what](std::int64_t done, std::int64_t of) {
    setup_.observer.on_progress(what, position_.iteration, done, of);
    return interrupted();
  };
}

template <class Work>
auto Trainer::with_recovery(const Work& work) -> decltype(work()) {
  for (;;) {
    try {
      return work();
    } catch (const OutOfMemoryError& error) {  // unwinding has freed all that the work had taken
      adopt_smaller_plan(error);
    }
  }
}

void Trainer::adopt_smaller_plan(const OutOfMemoryError& error) {
  const OutOfMemoryError::Facts& facts = error.facts();
  const std::size_t budget = memory_.budget_bytes();
  // Below the budget, it was the device that refused: it holds no more than what was reserved then.
  const std::size_t reserved = facts.in_use_bytes + facts.cached_bytes;
  const bool device_refused = reserved + facts.requested_bytes <= budget;
  const std::size_t limit = device_refused ? reserved : budget;

  // The fastest smaller plan within the limit; where none is, the largest one below the plan that
  // failed, because a refusal may pass and every plan tried must be a smaller one.
  std::optional<PredictedPlan> next;
  for (const Plan& plan : plans_) {
    if (plan.micro_batch > plan_.micro_batch || plan == plan_) continue;
    Prediction prediction = predict(exec_.kernels(), config_, plan, budget, position_.iteration);
    const std::size_t peak = prediction.stats.peak_allocated_bytes;
    if (!prediction.fits() ||
        (prediction_.fits() && peak >= prediction_.stats.peak_allocated_bytes)) {
      continue;
    }
    const bool within = prediction.stats.peak_reserved_bytes <= limit;
    if (within || !next || peak > next->prediction.stats.peak_allocated_bytes) {
      next = PredictedPlan{plan, std::move(prediction)};
    }
    if (within) break;
  }
  if (!next) {
    tell_memory(error);
    throw OutOfMemoryError(facts, concat("no smaller micro-batch is left; ",
                                         to_text(advise(exec_.kernels(), config_, budget))));
  }
  const OutOfMemoryEvent event{.step = position_.iteration,
                               .facts = facts,
                               .from = plan_,
                               .to = next->plan,
                               .stats = memory_.stats(),
                               .counts = memory_.counts()};
  adopt(next->plan, std::move(next->prediction));
  grow_wait_ = std::max(kFirstGrowWait, 2 * grow_wait_);
  grow_at_ = position_.iteration + grow_wait_;
  setup_.observer.on_out_of_memory(event);
}

// The cache is given back, so that segments are those of a fresh start and the prediction holds.
void Trainer::adopt(const Plan& plan, Prediction prediction) {
  plan_ = plan;
  prediction_ = std::move(prediction);
  memory_.release_cached();
  memory_.reset_peaks();
}

void Trainer::grow() {
  if (!config_.memory.grow || !setup_.budget_now || grow_wait_ == 0) return;
  if (position_.iteration < grow_at_) return;
  grow_at_ = position_.iteration + grow_wait_;
  const std::size_t budget = setup_.budget_now();
  for (const Plan& plan : plans_) {
    if (plan == plan_) return;  // what follows is slower
    Prediction prediction = predict(exec_.kernels(), config_, plan, budget, position_.iteration);
    if (!prediction.fits()) continue;
    const Plan from = plan_;
    memory_.set_budget(budget);
    adopt(plan, std::move(prediction));
    setup_.observer.on_grow(
        {.step = position_.iteration, .from = from, .to = plan_, .budget_bytes = budget});
    return;
  }
}

// Of an error that ends the run; its message follows from elsewhere.
void Trainer::tell_memory(const OutOfMemoryError& error) const {
  setup_.observer.on_note(
      memory_summary(memory_.stats(), memory_.counts(), error.facts().largest_free_block_bytes));
}

std::optional<StepResult> Trainer::step() {
  return with_recovery([&] {
    const StepPosition at{.iteration = position_.iteration,
                          .updates = position_.updates,
                          .first_sample = position_.next_sample,
                          .loss_scale = loss_scale()};
    std::optional<StepResult> result =
        train_step(exec_, config_, plan_, *state_, &source_, at, progress("step"));
    if (result) {
      ++position_.iteration;
      position_.updates += result->finite ? 1 : 0;
      if (position_.loss_scale) position_.loss_scale->update(result->finite);
      position_.next_sample += static_cast<std::uint64_t>(config_.training.effective_batch());
    }
    return result;
  });
}

std::optional<EvalEvent> Trainer::evaluate() {
  const Timer timer;
  return with_recovery([&]() -> std::optional<EvalEvent> {
    const auto loss = [&](const Loader& data, const char* split) {
      return evaluate_split(exec_, config_, plan_, *state_, &data, split, progress("evaluation"));
    };
    const std::optional<float> train = loss(setup_.train_eval_data, "train");
    const std::optional<float> val = train ? loss(setup_.val_data, "val") : std::nullopt;
    if (!val) return std::nullopt;
    std::string sample = write_sample({exec_, config_, state_->weights()}, setup_.sample);
    return EvalEvent{.step = position_.iteration,
                     .train_loss = *train,
                     .val_loss = *val,
                     .seconds = timer.seconds(),
                     .sample = std::move(sample)};
  });
}

void Trainer::save() {
  const Timer timer;
  const PhaseScope phase(memory_, Phase::kCheckpoint);
  position_.micro_batch = plan_.micro_batch;
  position_.accumulation = plan_.accumulation;
  position_.recompute = name_of(plan_.recompute);
  const auto download = [this](void* to, const void* from, std::size_t bytes) {
    exec_.kernels().download(to, from, bytes, exec_.stream());
  };
  const std::string path = write_checkpoint(config_.out_dir,
                                            {.state = position_,
                                             .config_yaml = setup_.config_yaml,
                                             .weights = state_->checkpoint_weights(),
                                             .optimizer = state_->checkpoint_optimizer(),
                                             .download = download},
                                            config_.checkpoint.keep_checkpoints);
  saved_iteration_ = position_.iteration;
  setup_.observer.on_checkpoint(
      {.step = position_.iteration, .path = path, .seconds = timer.seconds()});
}

// A full disk is no reason to lose a run: the last good checkpoint stays, and training goes on.
void Trainer::try_save() {
  try {
    save();
    save_problem_.clear();
  } catch (const CheckpointError& error) {
    save_problem_ = error.what();
    setup_.observer.on_note("checkpoint failed, training goes on: " + save_problem_);
  }
}

void Trainer::run() {
  const Timer total;
  const std::int64_t first = position_.iteration;
  const double tokens =
      static_cast<double>(config_.training.effective_batch() * config_.model.block_size);
  bool stopped = false;

  while (!stopped) {
    const std::int64_t iteration = position_.iteration;
    bool save_due = config_.checkpoint.checkpoint_interval > 0 && iteration > first &&
                    iteration % config_.checkpoint.checkpoint_interval == 0;
    if (evaluation_due(config_, iteration)) {
      const std::optional<EvalEvent> evaluation = evaluate();
      if (!evaluation) break;
      setup_.observer.on_evaluation(*evaluation);
      const bool improved = evaluation->val_loss < position_.best_val_loss;
      if (improved) position_.best_val_loss = evaluation->val_loss;
      save_due |= config_.checkpoint.checkpoint_interval == 0 && iteration > first &&
                  (improved || config_.checkpoint.always_save_checkpoint);
    }
    if (save_due) try_save();
    if (run_ends_at(config_, iteration)) break;

    grow();
    const Timer timer;
    const double rate = learning_rate(config_.optimizer, iteration);
    const float scale = loss_scale();
    const std::optional<StepResult> result = step();
    stopped = !result.has_value() || interrupted();
    if (!result) break;
    const double seconds = timer.seconds();
    const double per_second = tokens / seconds;
    const double flops = per_second * flops_per_token(config_.model);
    setup_.observer.on_step(
        {.step = iteration,
         .loss = result->loss,
         .learning_rate = rate,
         .grad_norm = result->norm,
         .skipped = !result->finite,
         .loss_scale = scale,
         .step_seconds = seconds,
         .tokens_per_second = per_second,
         .mfu = setup_.peak_flops_per_second > 0.0 ? flops / setup_.peak_flops_per_second : 0.0,
         .plan = plan_,
         .allocated_bytes = memory_.stats().allocated_bytes,
         .peak_bytes = memory_.stats().peak_allocated_bytes,
         .peak_by_category = memory_.stats().by_tag_at_peak});
  }

  stopped |= interrupted();
  // An interrupted run is saved whatever the interval says; so is the end of one.
  const bool nothing_new = position_.iteration == first || position_.iteration == saved_iteration_;
  if (!nothing_new && (stopped || config_.checkpoint.always_save_checkpoint)) try_save();
  setup_.observer.on_end({.step = position_.iteration,
                          .plan = plan_,
                          .prediction = prediction_,
                          .stats = memory_.stats(),
                          .counts = memory_.counts(),
                          .largest_free_block_bytes = memory_.largest_free_block_bytes(),
                          .host_bytes = host_memory_.stats().peak_reserved_bytes,
                          .resident_bytes = peak_resident_bytes(),
                          .seconds = total.seconds(),
                          .interrupted = stopped});
  if (!save_problem_.empty()) {
    throw CheckpointError(config_.out_dir,
                          "the newest checkpoint could not be written: " + save_problem_);
  }
}

}  // namespace gpt2train
