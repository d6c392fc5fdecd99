#include "gpt2train/train/evaluate.h"

#include <algorithm>

#include "gpt2train/model/gpt2.h"
#include "gpt2train/ops/ops.h"

namespace gpt2train {

std::optional<float> evaluate_split(const Exec& exec, const RunConfig& config, const Plan& plan,
                                    const ModelState& state, const Loader* loader,
                                    const char* split, const StopCheck& stop) {
  CachingAllocator& memory = exec.memory();
  const PhaseScope phase(memory, Phase::kEvaluation);
  const Scope scope(exec, concat("evaluation of ", split));
  const std::int64_t T = config.model.block_size;
  const std::int64_t samples = config.evaluation.eval_iters * config.training.batch_size;
  const float scale = 1.0f / static_cast<float>(samples * T);

  Batch host;
  const auto run = [&](std::int64_t first, std::int64_t count) {
    const Tensor inputs(memory, Tag::kStaging, "inputs", DType::kInt32, {count, T});
    const Tensor targets(memory, Tag::kStaging, "targets", DType::kInt32, {count, T});
    if (!exec.dry_run()) {
      loader->read(static_cast<std::uint64_t>(first), count, host);
      ops::upload(exec, inputs, host.inputs.data());
      ops::upload(exec, targets, host.targets.data());
    }
    const Tensor losses(memory, Tag::kActivations, "losses", DType::kFloat32, {count * T});
    const Pass pass{.exec = exec,
                    .config = config.model,
                    .precision = precision_of(config),
                    .batch = count,
                    .time = T};
    forward_loss(pass, head_mode_of(config), state.weights(), inputs, targets, losses);
    ops::loss_sum(
        exec,
        {.cell = state.loss_cell(), .losses = losses, .scale = scale, .accumulate = first > 0});
  };

  const std::int64_t most = config.evaluation.eval_micro_batch;
  const std::int64_t rows = most > 0 ? std::min(most, plan.micro_batch) : plan.micro_batch;
  const std::int64_t rest = samples % rows, whole = samples - rest;
  for (std::int64_t first = 0; first < whole; first += rows) {
    if (stop && stop(first, samples)) return std::nullopt;
    const std::uint64_t generation = memory.segment_generation();
    run(first, rows);
    // A repeat that moved no segment would go on so.
    if (exec.dry_run() && first > 0 && memory.segment_generation() == generation) break;
  }
  if (rest > 0) run(whole, rest);

  float loss = 0.0f;
  ops::download(exec, &loss, state.loss_cell());
  return loss;
}

}  // namespace gpt2train
