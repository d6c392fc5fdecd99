// What both forms of nanoGPT's model share: its parameters with all that belongs to them, and the
// shapes of its tensors.
#pragma once

#include <memory>
#include <vector>

#include "src/nanogpt/torch_tensor.h"

namespace gpt2train {

struct TorchParameter {
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // 0: a vector of `rows`
  TorchTensor value = {};    // fp32, as is all but `half`
  TorchTensor half = {};     // autocast's copy
  TorchTensor gradient = {};
  TorchTensor step = {}, mean = {}, square = {};  // AdamW's

  bool matrix() const { return columns > 0; }
};

struct LayerNorm {
  TorchParameter weight, bias;  // without biases `bias.rows` is 0
};
struct Linear {
  TorchParameter weight, bias;
};

struct TransformerBlock {
  LayerNorm ln_1;
  Linear c_attn, attn_c_proj;
  LayerNorm ln_2;
  Linear c_fc, mlp_c_proj;
};

class ModelTrace {
 public:
  // model.to(device)
  ModelTrace(TorchDevice& device, const NanogptRun& run);
  virtual ~ModelTrace() = default;
  ModelTrace(const ModelTrace&) = delete;
  ModelTrace& operator=(const ModelTrace&) = delete;

  // A forward pass under torch.no_grad(); its logits, which Python keeps.
  virtual TorchTensor evaluate() = 0;
  // A forward pass that autograd watches; its logits.
  virtual TorchTensor forward() = 0;
  // The backward pass of that; frees the batch when nothing needs it any more.
  virtual void backward(TorchTensor inputs, TorchTensor targets) = 0;

  // clip_grad_norm_ and AdamW's step.
  void optimizer_step();
  // zero_grad(set_to_none=True)
  void drop_gradients();

 protected:
  // Of autocast, (B * T, columns); `type` where it is not autocast's.
  TorchTensor rows_of(const char* name, std::int64_t columns) {
    return rows_of(name, columns, type_);
  }
  TorchTensor rows_of(const char* name, std::int64_t columns, TorchType type) {
    return device_.tensor(name, {rows_, columns}, type);
  }
  TorchTensor like(const char* name, const TorchParameter& parameter, TorchType type);
  // cuBLAS takes its workspace at the first product.
  void before_product();
  // autocast's copy of a parameter, unless it has one; nothing without autocast.
  void cast(TorchParameter& parameter);
  void cast(Linear& linear);
  // In the order of model.parameters().
  std::vector<TorchParameter*> parameters();

  bool autocast() const { return type_.bytes < kFloatType.bytes; }
  bool dropout() const { return config_.dropout > 0; }

  TorchDevice& device_;
  const ModelConfig config_;
  const std::int64_t B_, T_, C_, H_, V_;
  const std::int64_t rows_;  // B * T
  const TorchType type_;     // autocast's
  TorchParameter wte_, wpe_;
  std::vector<TransformerBlock> blocks_;
  LayerNorm ln_f_;

 private:
  const std::size_t cublas_workspace_bytes_;
  TorchTensor cublas_workspace_;
};

std::unique_ptr<ModelTrace> eager_trace(TorchDevice& device, const NanogptRun& run);
std::unique_ptr<ModelTrace> compiled_trace(TorchDevice& device, const NanogptRun& run);

}  // namespace gpt2train
