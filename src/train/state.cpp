#include "gpt2train/train/state.h"

#include <algorithm>

#include "gpt2train/core/convert.h"
#include "gpt2train/core/moment_code.h"
#include "gpt2train/ops/ops.h"
#include "src/train/stored_moments.h"

namespace gpt2train {
namespace {

constexpr std::int64_t kInitialPiece =
    1 << 22;  // elements initialised at a time: 16 MiB of host memory

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

const char* stored_dtype(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "F32";
    case DType::kBFloat16:
      return "BF16";
    case DType::kInt8:
      return "I8";
    case DType::kUInt8:
      return "U8";
    case DType::kFloat16:
    case DType::kInt32:
      break;
  }
  throw InternalError(concat("no checkpoint has ", name_of(dtype)));
}

TensorToStore stored(std::string name, const TensorView& view) {
  return {.name = std::move(name),
          .dtype = stored_dtype(view.dtype),
          .shape = dims(view.shape),
          .bytes = {static_cast<const std::byte*>(view.data), view.bytes()}};
}

// Zero bits are zeros in every dtype, and in codes of a scale of zero. Flat arrays are of whole
// words, whatever their dtype.
void clear(const Exec& exec, const TensorView& view) {
  if (!view.present()) return;
  const auto words = static_cast<std::int64_t>(view.bytes() / sizeof(float));
  ops::fill(exec, {.out = {view.data, DType::kFloat32, {words}}, .value = 0.0f});
}

}  // namespace

ModelState::ModelState(const Exec& exec, const ModelConfig& config, Precision precision,
                       Purpose purpose, Offload offload)
    : layout_(config) {
  const AllocScope scope(exec.memory(), "model");
  const auto flat = [&](CachingAllocator& memory, Tag tag, const char* name, Role role) {
    return Tensor(memory, tag, name, precision.of(role), {layout_.flat_count()});
  };
  weights_ = flat(exec.memory(), Tag::kWeights, "weights", Role::kWeight);
  weight_tensors_ = bind(layout_, weights_);
  if (purpose == Purpose::kInference) return;

  const auto memory_of = [&](bool offloaded) -> CachingAllocator& {
    return offloaded ? exec.host_memory() : exec.memory();
  };
  if (precision.master_weights()) {
    masters_ = flat(memory_of(offload == Offload::kOptimizer), Tag::kMasterWeights,
                    "master_weights", Role::kMasterWeight);
  }
  gradients_ = flat(exec.memory(), Tag::kGradients, "gradients", Role::kGradient);
  CachingAllocator& moments = memory_of(offload != Offload::kNone);
  m_ = flat(moments, Tag::kOptimizer, "adam_m", Role::kFirstMoment);
  v_ = flat(moments, Tag::kOptimizer, "adam_v", Role::kSecondMoment);
  if (precision.moment == DType::kInt8) {
    const auto scales = [&](const char* name) {
      return Tensor(moments, Tag::kOptimizer, name, DType::kFloat32,
                    {code_blocks(layout_.flat_count())});
    };
    m_scales_ = scales("adam_m_scales");
    v_scales_ = scales("adam_v_scales");
  }
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
    for (std::int64_t first = 0; first < parameter.count(); first += kInitialPiece) {
      values.resize(static_cast<std::size_t>(std::min(kInitialPiece, parameter.count() - first)));
      initial_values(layout_, i, seed, first, values);
      upload(exec, piece_of(target, parameter.offset + first, std::ssize(values)), values);
    }
  }
  if (masters_.present()) ops::cast(exec, {.out = weights_, .in = masters_});
  clear_the_rest(exec);
}

void ModelState::clear_the_rest(const Exec& exec) const {
  for (const Tensor* tensor : {&gradients_, &m_, &v_, &m_scales_, &v_scales_}) {
    clear(exec, *tensor);
  }
}

void ModelState::load_parameter(const Exec& exec, const TensorView& flat,
                                const Parameter& parameter, const StoredTensors& file,
                                const std::string& name, bool transpose) const {
  Shape expected = parameter.shape;
  if (transpose) expected = {parameter.shape[1], parameter.shape[0]};
  check_shape(file, name, expected);
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

void ModelState::load_weights(const Exec& exec, const StoredTensors& file, bool hf_orientation) {
  const TensorView target = updated_weights();
  ops::fill(exec, {.out = target, .value = 0.0f});  // the padding, too
  for (const Parameter& parameter : layout_.list()) {
    load_parameter(exec, target, parameter, file, parameter.name,
                   hf_orientation && parameter.transposed_in_hf);
  }
  if (masters_.present()) ops::cast(exec, {.out = weights_, .in = masters_});
  clear_the_rest(exec);
}

// What was stored as codes comes back as those very codes: they are nearest to their own values.
template <class Code>
void ModelState::load_codes(const Exec& exec, const TensorView& flat, const TensorView& scales,
                            const StoredTensors& file, const std::string& prefix) const {
  const std::vector<float> stored = stored_scales(file, prefix, scales.count());
  std::vector<float> used = stored;
  if (stored.empty()) {
    used.resize(static_cast<std::size_t>(scales.count()));
    for (const Parameter& parameter : layout_.list()) {
      const std::vector<float> values = moments(file, prefix, parameter, stored);
      for (std::int64_t i = 0; i < std::ssize(values); ++i) {
        float& largest = used[(parameter.offset + i) / kCodeBlock];
        largest = std::max(largest, std::abs(values[i]));
      }
    }
    std::transform(used.begin(), used.end(), used.begin(), code_scale);
  }
  for (const Parameter& parameter : layout_.list()) {
    const std::vector<float> values = moments(file, prefix, parameter, stored);
    std::vector<Code> codes(values.size());
    for (std::int64_t i = 0; i < std::ssize(values); ++i) {
      const float scale = used[(parameter.offset + i) / kCodeBlock];
      codes[i] = encode<Code>(values[i], inverse_of(scale), kNearest);
    }
    ops::upload(exec, layout_.view(flat, parameter), codes.data());
  }
  ops::upload(exec, scales, used.data());
}

void ModelState::load_optimizer(const Exec& exec, const StoredTensors& file) {
  if (m_scales_.present()) {
    load_codes<std::int8_t>(exec, m_, m_scales_, file, "m.");
    load_codes<std::uint8_t>(exec, v_, v_scales_, file, "v.");
    return;
  }
  for (const auto& [flat, prefix] : {std::pair(m_.view(), "m."), {v_.view(), "v."}}) {
    const std::vector<float> scales =
        stored_scales(file, prefix, code_blocks(layout_.flat_count()));
    for (const Parameter& parameter : layout_.list()) {
      upload(exec, layout_.view(flat, parameter), moments(file, prefix, parameter, scales));
    }
  }
}

std::vector<TensorToStore> ModelState::checkpoint_weights() const {
  std::vector<TensorToStore> result;
  for (const Parameter& parameter : layout_.list()) {
    result.push_back(stored(parameter.name, layout_.view(updated_weights(), parameter)));
  }
  return result;
}

std::vector<TensorToStore> ModelState::checkpoint_optimizer() const {
  std::vector<TensorToStore> result;
  for (const Parameter& parameter : layout_.list()) {
    result.push_back(stored("m." + parameter.name, layout_.view(m_, parameter)));
    result.push_back(stored("v." + parameter.name, layout_.view(v_, parameter)));
  }
  if (m_scales_.present()) {
    result.push_back(stored("m.scales", m_scales_));
    result.push_back(stored("v.scales", v_scales_));
  }
  return result;
}

}  // namespace gpt2train
