// The tensors that outlive a step: weights, and for training gradients, moments and masters, each
// one flat array of the same layout.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpt2train/core/precision.h"
#include "gpt2train/data/safetensors.h"
#include "gpt2train/memory/tensor.h"
#include "gpt2train/model/parameters.h"
#include "gpt2train/ops/exec.h"
#include "gpt2train/train/config.h"
#include "kernels/optimizer.h"

namespace gpt2train {

enum class Purpose : std::uint8_t { kInference, kTraining };

// Allocates in a fixed order, before anything else does: after a re-plan the segments are those of
// a fresh start, and so is the prediction.
class ModelState {
 public:
  // What `offload` names is in the host memory of `exec`.
  ModelState(const Exec& exec, const ModelConfig& config, Precision precision, Purpose purpose,
             Offload offload = Offload::kNone);

  const ParameterLayout& layout() const { return layout_; }
  const ModelTensors& weights() const { return weight_tensors_; }
  const ModelTensors& gradients() const { return gradient_tensors_; }

  TensorView flat_weights() const { return weights_; }
  TensorView flat_masters() const { return masters_; }  // absent where the weights are updated
  TensorView flat_gradients() const { return gradients_; }
  TensorView flat_m() const { return m_; }
  TensorView flat_v() const { return v_; }
  TensorView m_scales() const { return m_scales_; }  // absent but for moments of eight bits
  TensorView v_scales() const { return v_scales_; }
  TensorView grad_state() const { return grad_state_; }  // (kGradStateCount) fp32
  // (1) fp32, in grad_state: both come back to the host at once.
  TensorView loss_cell() const {
    return {grad_state_.view().as<float>() + kGradStateLoss, DType::kFloat32, {1}};
  }

  // What the optimizer updates: the fp32 masters, or the weights themselves, fp32 or bf16.
  TensorView updated_weights() const { return masters_.present() ? masters_ : weights_; }

  // N(0, 0.02) weights and zero moments.
  void initialise(const Exec& exec, std::uint64_t seed);

  // Weights by name, in either orientation of the linear layers. A missing tensor or a wrong shape
  // throws DataError with what was found and expected; tensors that are not ours are ignored. What
  // is loaded into 16 bits is rounded to nearest.
  void load_weights(const Exec& exec, const StoredTensors& file, bool hf_orientation);
  // Moments ("m.<name>", "v.<name>", and "m.scales", "v.scales" of blocks of the flat arrays where
  // those are codes of eight bits), written by checkpoint_optimizer().
  void load_optimizer(const Exec& exec, const StoredTensors& file);

  // What a checkpoint stores: updated weights and moments in their dtypes, without padding, where
  // the device has them. Any dtype can be loaded into any other.
  std::vector<TensorToStore> checkpoint_weights() const;
  std::vector<TensorToStore> checkpoint_optimizer() const;

 private:
  void load_parameter(const Exec& exec, const TensorView& flat, const Parameter& parameter,
                      const StoredTensors& file, const std::string& name, bool transpose) const;

  void clear_the_rest(const Exec& exec) const;  // all but weights
  template <class Code>
  void load_codes(const Exec& exec, const TensorView& flat, const TensorView& scales,
                  const StoredTensors& file, const std::string& prefix) const;

  ParameterLayout layout_;
  Tensor weights_, masters_, gradients_, m_, v_, m_scales_, v_scales_, grad_state_;
  ModelTensors weight_tensors_, gradient_tensors_;
};

}  // namespace gpt2train
