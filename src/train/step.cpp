#include "gpt2train/train/step.h"

#include "gpt2train/model/gpt2.h"
#include "gpt2train/ops/ops.h"
#include "gpt2train/train/schedule.h"

namespace gpt2train {
namespace {

// A micro-batch on the device.
struct StagedBatch {
  Tensor inputs, targets;  // (B, T) int32
  Tensor first_sample;     // (2) int32: the 64 bits of the first row's run-wide index
};

StagedBatch make_staged(const Exec& exec, std::int64_t rows, std::int64_t time) {
  const auto tensor = [&](const char* name, Shape shape) {
    return Tensor(exec.memory(), Tag::kStaging, name, DType::kInt32, shape);
  };
  return {.inputs = tensor("inputs", {rows, time}),
          .targets = tensor("targets", {rows, time}),
          .first_sample = tensor("first_sample", {2})};
}

void upload(const Exec& exec, const StagedBatch& batch, const StepRows& rows) {
  ops::upload(exec, batch.inputs, rows.inputs);
  ops::upload(exec, batch.targets, rows.targets);
  ops::upload(exec, batch.first_sample, rows.samples);
}

void run_micro_batch(const Exec& exec, const RunConfig& config, const Plan& plan,
                     const ModelState& state, const StagedBatch& batch, float loss_scale,
                     bool accumulate) {
  const std::int64_t B = plan.micro_batch, T = config.model.block_size;
  const Tensor losses(exec.memory(), Tag::kActivations, "losses", DType::kFloat32, {B * T});
  const Pass pass{.exec = exec,
                  .config = config.model,
                  .precision = precision_of(config),
                  .batch = B,
                  .time = T,
                  .training = true,
                  .seed = config.seed,
                  .first_sample = static_cast<const std::uint64_t*>(batch.first_sample.view().data),
                  .recompute = plan.recompute,
                  .block_layers = plan.block_layers};
  const float scale = 1.0f / static_cast<float>(config.training.effective_batch() * T);
  forward_backward(pass, head_mode_of(config), state.weights(), state.gradients(), batch.inputs,
                   batch.targets, losses, scale * loss_scale, accumulate);
  ops::loss_sum(
      exec,
      {.cell = state.loss_cell(), .losses = losses, .scale = scale, .accumulate = accumulate});
}

}  // namespace

Precision precision_of(const RunConfig& config) {
  const auto moment = [&] {
    switch (config.memory.moments) {
      case Moments::kFloat32:
        break;
      case Moments::kBFloat16:
        return DType::kBFloat16;
      case Moments::kInt8:
        return DType::kInt8;
    }
    return DType::kFloat32;
  };
  return {.compute = config.dtype, .moment = moment(), .masters = config.memory.master_weights};
}

HeadMode head_mode_of(const RunConfig& config) {
  return {.logits = config.memory.logits, .chunk_rows = config.memory.logits_rows};
}

std::optional<StepResult> train_step(const Exec& exec, const RunConfig& config, const Plan& plan,
                                     ModelState& state, StepSource* source,
                                     const StepPosition& position, const StopCheck& stop) {
  CachingAllocator& memory = exec.memory();
  const PhaseScope phase(memory, Phase::kTraining);
  const Scope scope(exec, concat("step ", position.iteration));
  const std::int64_t T = config.model.block_size;
  const StagedBatch batch = make_staged(exec, plan.micro_batch, T);
  const StepRows rows = source == nullptr ? StepRows{} : source->tokens.at(position.first_sample);
  for (std::int64_t micro = 0; micro < plan.accumulation; ++micro) {
    if (stop && stop(micro, plan.accumulation)) return std::nullopt;
    const Scope micro_scope(exec, concat("micro ", micro));
    const MicroBatchKey key{.plan = plan,
                            .accumulate = micro > 0,
                            .loss_scale = position.loss_scale,
                            .inputs = batch.inputs.view().data,
                            .targets = batch.targets.view().data,
                            .first_sample = batch.first_sample.view().data,
                            .segment_generation = memory.segment_generation()};
    const auto work = [&] {
      run_micro_batch(exec, config, plan, state, batch, key.loss_scale, key.accumulate);
    };
    if (source == nullptr) {
      work();
      // A repeat that moved no segment starts the next one where it started itself.
      if (micro > 0 && memory.segment_generation() == key.segment_generation) break;
    } else {
      upload(exec, batch, rows.from(micro * plan.micro_batch, T));
      source->replay.run(exec, key, work);
    }
  }
  update_weights(exec, config, state, position);
  if (source == nullptr) return StepResult{};

  // The device is still at work: the next step's tokens are read meanwhile.
  source->tokens.at(position.first_sample +
                    static_cast<std::uint64_t>(config.training.effective_batch()));
  float grad_state[kGradStateCount] = {};
  ops::download(exec, grad_state, state.grad_state());
  return StepResult{.loss = grad_state[kGradStateLoss],
                    .norm = grad_state[kGradStateNorm],
                    .finite = grad_state[kGradStateFinite] != 0.0f};
}

void update_weights(const Exec& exec, const RunConfig& run, const ModelState& state,
                    const StepPosition& position) {
  const OptimizerConfig& config = run.optimizer;
  ops::grad_norm(exec, {.state = state.grad_state(),
                        .gradients = state.flat_gradients(),
                        .max_norm = static_cast<float>(config.grad_clip),
                        .loss_scale = position.loss_scale});
  ops::adamw(exec, {.weights = state.flat_weights(),
                    .masters = state.flat_masters(),
                    .gradients = state.flat_gradients(),
                    .m = state.flat_m(),
                    .v = state.flat_v(),
                    .m_scales = state.m_scales(),
                    .v_scales = state.v_scales(),
                    .state = state.grad_state(),
                    .ranges = state.layout().decay_ranges(),
                    .learning_rate = static_cast<float>(learning_rate(config, position.iteration)),
                    .beta1 = static_cast<float>(config.beta1),
                    .beta2 = static_cast<float>(config.beta2),
                    .epsilon = static_cast<float>(config.adam_eps),
                    .weight_decay = static_cast<float>(config.weight_decay),
                    .update = position.updates + 1,
                    .seed = run.seed});
}

}  // namespace gpt2train
