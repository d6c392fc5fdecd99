#include "gpt2train/train/step.h"

#include "gpt2train/model/gpt2.h"
#include "gpt2train/ops/ops.h"
#include "gpt2train/train/schedule.h"

namespace gpt2train {
namespace {

void run_micro_batch(const Exec& exec, const RunConfig& config, const Plan& plan,
                     const ModelState& state, const Loader* loader, std::uint64_t first_sample,
                     float loss_scale, bool accumulate, Batch& host) {
  const std::int64_t B = plan.micro_batch, T = config.model.block_size;
  const StagedBatch batch = stage(exec, B, T, loader, first_sample, host);
  const Tensor losses(exec.memory(), Tag::kActivations, "losses", DType::kFloat32, {B * T});
  const Pass pass{.exec = exec,
                  .config = config.model,
                  .precision = precision_of(config),
                  .batch = B,
                  .time = T,
                  .training = true,
                  .seed = config.seed,
                  .first_sample = first_sample,
                  .recompute = plan.recompute};
  const float scale = 1.0f / static_cast<float>(config.training.effective_batch() * T);
  forward_backward(pass, head_mode_of(config), state.weights(), state.gradients(), batch.inputs,
                   batch.targets, losses, scale * loss_scale, accumulate);
  ops::loss_sum(
      exec,
      {.cell = state.loss_cell(), .losses = losses, .scale = scale, .accumulate = accumulate});
}

void update_weights(const Exec& exec, const OptimizerConfig& config, const ModelState& state,
                    const StepPosition& position) {
  ops::grad_norm(exec, {.state = state.grad_state(),
                        .gradients = state.flat_gradients(),
                        .max_norm = static_cast<float>(config.grad_clip),
                        .loss_scale = position.loss_scale});
  ops::adamw(exec, {.weights = state.flat_weights(),
                    .masters = state.flat_masters(),
                    .gradients = state.flat_gradients(),
                    .m = state.flat_m(),
                    .v = state.flat_v(),
                    .state = state.grad_state(),
                    .ranges = state.layout().decay_ranges(),
                    .learning_rate = static_cast<float>(learning_rate(config, position.iteration)),
                    .beta1 = static_cast<float>(config.beta1),
                    .beta2 = static_cast<float>(config.beta2),
                    .epsilon = static_cast<float>(config.adam_eps),
                    .weight_decay = static_cast<float>(config.weight_decay),
                    .update = position.updates + 1});
}

}  // namespace

Precision precision_of(const RunConfig& config) {
  return {.compute = config.dtype};
}

HeadMode head_mode_of(const RunConfig& config) {
  return {.logits = config.memory.logits, .chunk_rows = config.memory.logits_rows};
}

StagedBatch stage(const Exec& exec, std::int64_t rows, std::int64_t time, const Loader* loader,
                  std::uint64_t first_sample, Batch& host) {
  const Shape shape{rows, time};
  StagedBatch batch{
      .inputs = Tensor(exec.memory(), Tag::kStaging, "inputs", DType::kInt32, shape),
      .targets = Tensor(exec.memory(), Tag::kStaging, "targets", DType::kInt32, shape)};
  if (exec.dry_run()) return batch;
  loader->read(first_sample, rows, host);
  ops::upload(exec, batch.inputs, host.inputs.data());
  ops::upload(exec, batch.targets, host.targets.data());
  return batch;
}

std::optional<StepResult> train_step(const Exec& exec, const RunConfig& config, const Plan& plan,
                                     ModelState& state, const Loader* loader,
                                     const StepPosition& position, const StopCheck& stop) {
  CachingAllocator& memory = exec.memory();
  const PhaseScope phase(memory, Phase::kTraining);
  const AllocScope scope(memory, concat("step ", position.iteration));
  Batch host;
  for (std::int64_t micro = 0; micro < plan.accumulation; ++micro) {
    if (stop && stop(micro, plan.accumulation)) return std::nullopt;
    const AllocScope micro_scope(memory, concat("micro ", micro));
    const std::uint64_t generation = memory.segment_generation();
    run_micro_batch(exec, config, plan, state, loader,
                    position.first_sample + static_cast<std::uint64_t>(micro * plan.micro_batch),
                    position.loss_scale, micro > 0, host);
    // A repeated micro-batch that moved no segment starts the next one where it started itself.
    if (exec.dry_run() && micro > 0 && memory.segment_generation() == generation) break;
  }
  update_weights(exec, config.optimizer, state, position);

  StepResult result;
  float grad_state[kGradStateCount] = {0.0f, 1.0f, 1.0f, 0.0f};
  ops::download(exec, grad_state, state.grad_state());
  ops::download(exec, &result.loss, state.loss_cell());
  result.norm = grad_state[kGradStateNorm];
  result.finite = grad_state[kGradStateFinite] != 0.0f;
  return result;
}

}  // namespace gpt2train
