#include "gpt2train/train/state.h"

#include <algorithm>

#include "gpt2train/core/convert.h"
#include "gpt2train/ops/ops.h"

namespace gpt2train {
namespace {

constexpr std::int64_t kPiece = 1 << 22;  // elements initialised at a time: 16 MiB of host memory

std::vector<std::int64_t> dims(const Shape& shape) {
  std::vector<std::int64_t> result;
  for (int i = 0; i < shape.rank(); ++i) result.push_back(shape[i]);
  return result;
}

TensorView piece_of(const TensorView& flat, std::int64_t first, std::int64_t count) {
  return TensorView{flat.data, flat.dtype, {flat.count(), 1}}.slice_rows(first, count);
}

// Rounded to nearest on the host where the device has 16 bits: a set-up takes nothing there that
// the plan does not know.
void upload(const Exec& exec, const TensorView& to, const std::vector<float>& values) {
  dispatch_any_float(to.dtype, "upload", [&]<class T>() {
    if constexpr (sizeof(T) == sizeof(float)) {
      ops::upload(exec, to, values.data());
    } else {
      std::vector<T> rounded(values.size());
      std::transform(values.begin(), values.end(), rounded.begin(), from_float<T>);
      ops::upload(exec, to, rounded.data());
    }
  });
}

TensorToStore stored(const ParameterLayout& layout, const TensorView& flat,
                     const Parameter& parameter, const std::string& prefix) {
  const TensorView view = layout.view(flat, parameter);
  return {.name = prefix + parameter.name,
          .dtype = view.dtype == DType::kFloat32 ? "F32" : "BF16",
          .shape = dims(parameter.shape),
          .bytes = {static_cast<const std::byte*>(view.data), view.bytes()}};
}

}  // namespace

ModelState::ModelState(const Exec& exec, const ModelConfig& config, Precision precision,
                       Purpose purpose)
    : layout_(config) {
  const AllocScope scope(exec.memory(), "model");
  const auto flat = [&](Tag tag, const char* name, Role role) {
    return Tensor(exec.memory(), tag, name, precision.of(role), {layout_.flat_count()});
  };
  weights_ = flat(Tag::kWeights, "weights", Role::kWeight);
  weight_tensors_ = bind(layout_, weights_);
  if (purpose == Purpose::kInference) return;

  if (precision.master_weights()) {
    masters_ = flat(Tag::kMasterWeights, "master_weights", Role::kMasterWeight);
  }
  gradients_ = flat(Tag::kGradients, "gradients", Role::kGradient);
  m_ = flat(Tag::kOptimizer, "adam_m", Role::kMoment);
  v_ = flat(Tag::kOptimizer, "adam_v", Role::kMoment);
  grad_state_ = Tensor(exec.memory(), Tag::kOptimizer, "grad_state", DType::kFloat32,
                       {std::int64_t{kGradStateCount}});
  gradient_tensors_ = bind(layout_, gradients_);
}

void ModelState::initialise(const Exec& exec, std::uint64_t seed) {
  const TensorView target = updated_weights();
  ops::fill(exec, {.out = target, .value = 0.0f});
  std::vector<float> values;
  for (std::size_t i = 0; i < layout_.list().size(); ++i) {
    const Parameter& parameter = layout_.list()[i];
    for (std::int64_t first = 0; first < parameter.count(); first += kPiece) {
      values.resize(static_cast<std::size_t>(std::min(kPiece, parameter.count() - first)));
      initial_values(layout_, i, seed, first, values);
      upload(exec, piece_of(target, parameter.offset + first, std::ssize(values)), values);
    }
  }
  if (masters_.present()) ops::cast(exec, {.out = weights_, .in = masters_});
  ops::fill(exec, {.out = gradients_, .value = 0.0f});
  ops::fill(exec, {.out = m_, .value = 0.0f});
  ops::fill(exec, {.out = v_, .value = 0.0f});
}

void ModelState::load_parameter(const Exec& exec, const TensorView& flat,
                                const Parameter& parameter, const SafetensorsFile& file,
                                const std::string& name, bool transpose) const {
  const StoredTensor& tensor = file.at(name);
  Shape expected = parameter.shape;
  if (transpose) expected = {parameter.shape[1], parameter.shape[0]};
  if (tensor.shape != dims(expected)) {
    std::string found;
    for (const std::int64_t d : tensor.shape) found += concat(found.empty() ? "" : ", ", d);
    throw DataError(file.path(),
                    concat(name, ": expected shape ", expected, ", found (", found, ')'));
  }
  std::vector<float> values = file.floats(name);
  if (transpose) {
    const std::int64_t rows = parameter.shape[0], columns = parameter.shape[1];
    std::vector<float> turned(values.size());
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) turned[r * columns + c] = values[c * rows + r];
    }
    values = std::move(turned);
  }
  upload(exec, piece_of(flat, parameter.offset, parameter.count()), values);
}

void ModelState::load_weights(const Exec& exec, const SafetensorsFile& file, bool hf_orientation) {
  const TensorView target = updated_weights();
  ops::fill(exec, {.out = target, .value = 0.0f});  // the padding, too
  for (const Parameter& parameter : layout_.list()) {
    load_parameter(exec, target, parameter, file, parameter.name,
                   hf_orientation && parameter.transposed_in_hf);
  }
  if (masters_.present()) ops::cast(exec, {.out = weights_, .in = masters_});
  if (m_.present()) {
    ops::fill(exec, {.out = gradients_, .value = 0.0f});
    ops::fill(exec, {.out = m_, .value = 0.0f});
    ops::fill(exec, {.out = v_, .value = 0.0f});
  }
}

void ModelState::load_optimizer(const Exec& exec, const SafetensorsFile& file) {
  for (const Parameter& parameter : layout_.list()) {
    load_parameter(exec, m_, parameter, file, "m." + parameter.name, false);
    load_parameter(exec, v_, parameter, file, "v." + parameter.name, false);
  }
}

std::vector<TensorToStore> ModelState::checkpoint_weights() const {
  std::vector<TensorToStore> result;
  for (const Parameter& parameter : layout_.list()) {
    result.push_back(stored(layout_, updated_weights(), parameter, ""));
  }
  return result;
}

std::vector<TensorToStore> ModelState::checkpoint_optimizer() const {
  std::vector<TensorToStore> result;
  for (const Parameter& parameter : layout_.list()) {
    result.push_back(stored(layout_, m_, parameter, "m."));
    result.push_back(stored(layout_, v_, parameter, "v."));
  }
  return result;
}

}  // namespace gpt2train
