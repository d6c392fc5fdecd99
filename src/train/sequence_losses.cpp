#include "gpt2train/train/sequence_losses.h"

#include "gpt2train/model/gpt2.h"
#include "gpt2train/ops/ops.h"
#include "gpt2train/train/step.h"

namespace gpt2train {

std::vector<float> sequence_losses(const InferenceModel& model, const SequenceBatch& batch) {
  const Exec& exec = model.exec;
  CachingAllocator& memory = exec.memory();
  const PhaseScope phase(memory, Phase::kEvaluation);
  const Scope scope(exec, "evaluation");
  const Shape shape = {batch.rows, batch.time};
  const Tensor inputs(memory, Tag::kStaging, "inputs", DType::kInt32, shape);
  const Tensor targets(memory, Tag::kStaging, "targets", DType::kInt32, shape);
  ops::upload(exec, inputs, batch.inputs.data());
  ops::upload(exec, targets, batch.targets.data());
  const Tensor losses(memory, Tag::kActivations, "losses", DType::kFloat32, {shape.count()});
  forward_loss(model.pass(batch.rows, batch.time), head_mode_of(model.config), model.weights,
               inputs, targets, losses);
  std::vector<float> values(static_cast<std::size_t>(shape.count()));
  ops::download(exec, values.data(), losses);
  return values;
}

}  // namespace gpt2train
