// compile=True: one graph forward and one backward. AOTAutograd's partitioner decides what the
// first leaves to the second; Inductor fuses the rest into the products' and reductions' buffers.
#include "src/nanogpt/model_trace.h"

namespace gpt2train {
namespace {

struct SavedNorm {
  TorchTensor normalised;  // fp32, before the weight
  TorchTensor rstd;
  TorchTensor output;  // as the linear layer reads it
};

struct SavedBlock {
  SavedNorm ln_1;
  TorchTensor qkv, attention, logsumexp, rng_state, attention_mask;
  SavedNorm ln_2;
  TorchTensor fc, gelu, mlp_mask;
};

struct NewGradient {
  TorchParameter* parameter;
  TorchTensor gradient;
};

class CompiledTrace final : public ModelTrace {
 public:
  CompiledTrace(TorchDevice& device, const NanogptRun& run)
      : ModelTrace(device, run), saved_(blocks_.size()) {}

  TorchTensor evaluate() override { return run(false); }
  TorchTensor forward() override { return run(true); }
  void backward(TorchTensor inputs, TorchTensor targets) override;

 private:
  TorchTensor run(bool training);
  void run_block(TransformerBlock& block, SavedBlock& saved, bool training);
  void normalise(SavedNorm& saved, bool training);
  TorchTensor linear(Linear& layer, const char* name, bool training);
  void add_to_residual(TorchTensor branch, TorchTensor& mask, bool training);

  void block_backward(TransformerBlock& block, SavedBlock& saved);
  TorchTensor linear_backward(Linear& layer, TorchTensor gradient, TorchTensor& input);
  void norm_backward(LayerNorm& norm, SavedNorm& saved, TorchTensor gradient);
  void new_gradient(TorchParameter& parameter);

  TorchTensor x_;  // the residual stream
  std::vector<SavedBlock> saved_;
  SavedNorm ln_f_saved_;
  TorchTensor position_, embedding_mask_, loss_, maximum_, log_sum_;
  TorchTensor gradient_;                    // of the residual stream
  std::vector<NewGradient> new_gradients_;  // a graph returns them together
};

// ---- forward ----------------------------------------------------------------------------------

TorchTensor CompiledTrace::run(bool training) {
  position_ = device_.tensor("pos", {T_}, kInt64Type);
  x_ = rows_of("embedding", C_, kFloatType);
  if (training && dropout()) embedding_mask_ = rows_of("dropout.mask", C_, kBoolType);
  for (std::size_t i = 0; i < blocks_.size(); ++i) run_block(blocks_[i], saved_[i], training);
  normalise(ln_f_saved_, training);
  x_.free();
  before_product();
  cast(wte_);
  TorchTensor logits = rows_of("logits", V_);
  if (!training) {
    position_.free();
    wte_.half.free();
    ln_f_saved_ = {};
  }
  // The softmax is two reductions of the logits, which write no matrix.
  maximum_ = rows_of("logits.amax", 1, kFloatType);
  log_sum_ = rows_of("logits.log_sum", 1, kFloatType);
  loss_ = device_.tensor("loss", {1}, kFloatType);
  if (!training) {
    maximum_.free();
    log_sum_.free();
  }
  return logits;
}

void CompiledTrace::run_block(TransformerBlock& block, SavedBlock& saved, bool training) {
  normalise(saved.ln_1, training);
  saved.qkv = linear(block.c_attn, "qkv", training);
  if (!training) saved.ln_1 = {};
  saved.attention = rows_of("attention", C_);
  saved.logsumexp = device_.tensor("logsumexp", {B_, H_, T_}, kFloatType);
  saved.rng_state = device_.tensor("rng_state", {2}, kInt64Type);
  if (!training) {
    saved.qkv.free();
    saved.logsumexp.free();
    saved.rng_state.free();
  }
  TorchTensor y = linear(block.attn_c_proj, "attn.c_proj", training);
  if (!training) saved.attention.free();
  add_to_residual(std::move(y), saved.attention_mask, training);

  normalise(saved.ln_2, training);
  saved.fc = linear(block.c_fc, "mlp.c_fc", training);
  if (!training) saved.ln_2 = {};
  saved.gelu = rows_of("gelu", 4 * C_);
  if (!training) saved.fc.free();
  y = linear(block.mlp_c_proj, "mlp.c_proj", training);
  if (!training) saved.gelu.free();
  add_to_residual(std::move(y), saved.mlp_mask, training);
}

void CompiledTrace::normalise(SavedNorm& saved, bool training) {
  saved.rstd = rows_of("layer_norm.rstd", 1, kFloatType);
  if (training) saved.normalised = rows_of("layer_norm.normalised", C_, kFloatType);
  saved.output = rows_of("layer_norm", C_);
}

TorchTensor CompiledTrace::linear(Linear& layer, const char* name, bool training) {
  before_product();
  cast(layer);
  TorchTensor output = rows_of(name, layer.weight.rows);
  if (!training) layer.weight.half.free();
  layer.bias.half.free();
  return output;
}

// In place: the branch is read once.
void CompiledTrace::add_to_residual(const TorchTensor /*branch*/, TorchTensor& mask,
                                    bool training) {
  if (training && dropout()) mask = rows_of("dropout.mask", C_, kBoolType);
}

// ---- backward ---------------------------------------------------------------------------------

void CompiledTrace::backward(TorchTensor inputs, TorchTensor targets) {
  TorchTensor of_logits;
  {
    // Nobody reads the returned logits, so autograd passes zeros for their gradient.
    const TorchTensor zeros = rows_of("logits.zero_grad", V_);
    of_logits = rows_of("logits.grad", V_);
  }
  targets.free();
  maximum_.free();
  log_sum_.free();
  TorchTensor of_table = like("linear.grad_weight", wte_, type_);
  TorchTensor of_x = rows_of("linear.grad_input", C_);
  of_logits.free();
  ln_f_saved_.output.free();
  wte_.half.free();
  norm_backward(ln_f_, ln_f_saved_, std::move(of_x));
  for (std::size_t i = blocks_.size(); i-- > 0;) block_backward(blocks_[i], saved_[i]);

  new_gradient(wpe_);
  new_gradient(wte_);
  gradient_.free();
  position_.free();
  embedding_mask_.free();
  of_table.free();
  inputs.free();
  // A parameter without a gradient takes the new one; others add it.
  for (NewGradient& made : new_gradients_) {
    if (!made.parameter->gradient.exists()) made.parameter->gradient = std::move(made.gradient);
  }
  new_gradients_.clear();
}

void CompiledTrace::block_backward(TransformerBlock& block, SavedBlock& saved) {
  TorchTensor of_y = rows_of("residual.grad", C_);
  saved.mlp_mask.free();
  of_y = linear_backward(block.mlp_c_proj, std::move(of_y), saved.gelu);
  saved.fc.free();  // GELU's gradient is written over that of its output
  of_y = linear_backward(block.c_fc, std::move(of_y), saved.ln_2.output);
  norm_backward(block.ln_2, saved.ln_2, std::move(of_y));

  // The attention's output is also saved by its projection.
  TorchTensor nothing;
  of_y = rows_of("residual.grad", C_);
  saved.attention_mask.free();
  of_y = linear_backward(block.attn_c_proj, std::move(of_y), nothing);
  TorchTensor of_qkv;
  {
    const TorchTensor q = rows_of("attention.grad_q", C_);
    const TorchTensor k = rows_of("attention.grad_k", C_);
    const TorchTensor v = rows_of("attention.grad_v", C_);
    {
      const TorchTensor softmax = device_.tensor("attention.softmax_d", {B_, H_, T_}, kFloatType);
      const TorchTensor sums = rows_of("attention.grad_q_sums", C_, kFloatType);
    }
    of_y.free();
    saved.qkv.free();
    saved.attention.free();
    saved.logsumexp.free();
    saved.rng_state.free();
    of_qkv = rows_of("qkv.grad", 3 * C_);
  }
  norm_backward(block.ln_1, saved.ln_1,
                linear_backward(block.c_attn, std::move(of_qkv), saved.ln_1.output));
}

TorchTensor CompiledTrace::linear_backward(Linear& layer, const TorchTensor /*gradient*/,
                                           TorchTensor& input) {
  const TorchTensor of_weight = like("linear.grad_weight", layer.weight, type_);
  input.free();
  TorchTensor of_input = rows_of("linear.grad_input", layer.weight.columns);
  layer.weight.half.free();
  new_gradient(layer.weight);
  if (layer.bias.rows > 0) new_gradient(layer.bias);
  return of_input;
}

// Reads the gradient of its output and adds to the residual stream's, which has the shape of it.
void CompiledTrace::norm_backward(LayerNorm& norm, SavedNorm& saved,
                                  const TorchTensor /*gradient*/) {
  if (!gradient_.exists()) gradient_ = rows_of("layer_norm.grad_input", C_, kFloatType);
  new_gradient(norm.weight);
  if (norm.bias.rows > 0) new_gradient(norm.bias);
  saved.normalised.free();
  saved.rstd.free();
}

void CompiledTrace::new_gradient(TorchParameter& parameter) {
  new_gradients_.push_back({&parameter, like("weight.grad", parameter, kFloatType)});
}

}  // namespace

std::unique_ptr<ModelTrace> compiled_trace(TorchDevice& device, const NanogptRun& run) {
  return std::make_unique<CompiledTrace>(device, run);
}

}  // namespace gpt2train
