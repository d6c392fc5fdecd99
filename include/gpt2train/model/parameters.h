// Every parameter of a GPT-2: one list with name, shape, decay and initialisation, and where each
// lies in the flat array that holds them all. Weights, gradients, moments and masters share the
// layout, so the optimizer and the gradient norm see one array each.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gpt2train/core/tensor_view.h"
#include "gpt2train/model/config.h"
#include "kernels/optimizer.h"

namespace gpt2train {

enum class Init : std::uint8_t { kZeros, kOnes, kNormal };

struct Parameter {
  std::string name;       // as Hugging Face names it: "h.0.attn.c_attn.weight"
  Shape shape;            // of a linear layer: (out, in), as nanoGPT has it
  bool transposed_in_hf;  // Hugging Face's Conv1D stores this one (in, out)
  bool decay;             // weight decay: two dimensions or more
  Init init;
  double init_std;           // for kNormal
  std::int64_t offset;       // first element in the flat array, a multiple of 64
  std::int64_t stored_rows;  // rows in storage: above shape[0] where the vocabulary is padded

  std::int64_t count() const { return shape.count(); }
};

class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelConfig& config);

  const std::vector<Parameter>& list() const { return list_; }
  const Parameter& at(const std::string& name) const;
  std::int64_t flat_count() const { return flat_count_; }  // with padding, which stays zero
  const std::vector<DecayRange>& decay_ranges() const { return decay_ranges_; }

  // The parameter without padding, in a flat array of this layout.
  TensorView view(const TensorView& flat, const Parameter& parameter) const;

 private:
  std::vector<Parameter> list_;
  std::vector<DecayRange> decay_ranges_;
  std::int64_t flat_count_ = 0;
};

// Elements [first, first + values.size()) of parameter `index` at the start of training: N(0,
// 0.02), residual projections N(0, 0.02 / sqrt(2 L)), ones or zeros. `first` is a multiple of 4. A
// value depends on the seed and its place alone.
void initial_values(const ParameterLayout& layout, std::size_t index, std::uint64_t seed,
                    std::int64_t first, std::span<float> values);

struct BlockTensors {
  TensorView ln1_gamma, ln1_beta;     // (C); betas and biases are absent in a model without bias
  TensorView qkv_weight, qkv_bias;    // (3C, C), (3C)
  TensorView proj_weight, proj_bias;  // (C, C), (C)
  TensorView ln2_gamma, ln2_beta;     // (C)
  TensorView fc_weight, fc_bias;      // (4C, C), (4C)
  TensorView out_weight, out_bias;    // (C, 4C), (C)
};

// The model's tensors by role, for weights as well as for their gradients.
struct ModelTensors {
  TensorView wte;  // (padded vocabulary, C): the token table and, tied, the head
  TensorView wpe;  // (block_size, C)
  std::vector<BlockTensors> blocks;
  TensorView lnf_gamma, lnf_beta;  // (C)
};
ModelTensors bind(const ParameterLayout& layout, const TensorView& flat);

}  // namespace gpt2train
