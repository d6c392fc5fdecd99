// compile=False: the tensors that aten's operators return, held for as long as Python, autocast's
// cache and autograd hold them.
#include "src/nanogpt/model_trace.h"

namespace gpt2train {
namespace {

// What autograd keeps of a LayerNorm and of the linear layer that reads it.
struct SavedNorm {
  TorchTensor input, mean, rstd;
  TorchTensor output;  // as the linear layer reads it
};

struct SavedBlock {
  SavedNorm ln_1;
  TorchTensor qkv, attention, logsumexp, rng_state, attention_mask;
  SavedNorm ln_2;
  TorchTensor fc, gelu, mlp_mask;
};

class EagerTrace final : public ModelTrace {
 public:
  EagerTrace(TorchDevice& device, const NanogptRun& run)
      : ModelTrace(device, run), saved_(blocks_.size()) {}

  TorchTensor evaluate() override { return run(false); }
  TorchTensor forward() override { return run(true); }
  void backward(TorchTensor inputs, TorchTensor targets) override;

 private:
  TorchTensor run(bool training);
  void run_block(TransformerBlock& block, SavedBlock& saved, bool training);
  TorchTensor normalise(SavedNorm& saved);
  TorchTensor linear(Linear& layer, const char* name);
  TorchTensor dropped(TorchTensor x, TorchTensor& mask, bool training);

  void block_backward(TransformerBlock& block, SavedBlock& saved);
  TorchTensor branch_gradient(TorchTensor& mask);
  TorchTensor linear_backward(Linear& layer, TorchTensor gradient, TorchTensor& input);
  void norm_backward(LayerNorm& norm, SavedNorm& saved, TorchTensor gradient);
  TorchTensor weight_gradient(TorchParameter& parameter, TorchTensor gradient);

  TorchTensor x_;  // the residual stream
  std::vector<SavedBlock> saved_;
  SavedNorm ln_f_saved_;
  TorchTensor position_, embedding_mask_, log_probabilities_, loss_, loss_weight_;
  TorchTensor gradient_;  // of the residual stream
};

// ---- forward ----------------------------------------------------------------------------------

TorchTensor EagerTrace::run(bool training) {
  position_ = device_.tensor("pos", {T_}, kInt64Type);
  const TorchTensor tok_emb = rows_of("tok_emb", C_, kFloatType);  // a local of GPT.forward
  const TorchTensor pos_emb = device_.tensor("pos_emb", {T_, C_}, kFloatType);
  x_ = dropped(rows_of("embedding", C_, kFloatType), embedding_mask_, training);
  for (std::size_t i = 0; i < blocks_.size(); ++i) run_block(blocks_[i], saved_[i], training);

  ln_f_saved_.input = std::move(x_);
  const TorchTensor x = normalise(ln_f_saved_);
  if (!training) {
    ln_f_saved_.input.free();
    ln_f_saved_.mean.free();
    ln_f_saved_.rstd.free();
  }
  before_product();
  cast(wte_);
  TorchTensor logits = rows_of("logits", V_);
  if (!training && autocast()) ln_f_saved_.output.free();
  {
    const TorchTensor wide =
        autocast() ? rows_of("cross_entropy.logits", V_, kFloatType) : TorchTensor();
    log_probabilities_ = rows_of("log_softmax", V_, kFloatType);
    loss_ = device_.tensor("loss", {1}, kFloatType);
    loss_weight_ = device_.tensor("total_weight", {1}, kFloatType);
    if (!training) log_probabilities_.free();
  }
  if (!training) {
    position_.free();
    ln_f_saved_ = {};
  }
  for (TorchParameter* p : parameters()) {  // the autocast context ends
    if (!training || !p->matrix()) p->half.free();
  }
  return logits;
}

void EagerTrace::run_block(TransformerBlock& block, SavedBlock& saved, bool training) {
  saved.ln_1.input = std::move(x_);
  {
    const TorchTensor x = normalise(saved.ln_1);  // an argument of the module until it returns
    saved.qkv = linear(block.c_attn, "qkv");
    if (!training && autocast()) saved.ln_1.output.free();
    saved.attention = rows_of("attention", C_);
    saved.logsumexp = device_.tensor("logsumexp", {B_, H_, T_}, kFloatType);
    saved.rng_state = device_.tensor("rng_state", {2}, kInt64Type);
    TorchTensor y = linear(block.attn_c_proj, "attn.c_proj");
    if (!training) saved.attention.free();
    y = dropped(std::move(y), saved.attention_mask, training);
    if (!training) {
      saved.qkv.free();
      saved.logsumexp.free();
      saved.rng_state.free();
      saved.ln_1.output.free();
    }
    saved.ln_2.input = rows_of("residual", C_, kFloatType);
  }
  {
    const TorchTensor x = normalise(saved.ln_2);
    saved.fc = linear(block.c_fc, "mlp.c_fc");
    if (!training && autocast()) saved.ln_2.output.free();
    saved.gelu = rows_of("gelu", 4 * C_);
    if (!training) saved.fc.free();
    TorchTensor y = linear(block.mlp_c_proj, "mlp.c_proj");
    if (!training) saved.gelu.free();
    y = dropped(std::move(y), saved.mlp_mask, training);
    if (!training) saved.ln_2.output.free();
    x_ = rows_of("residual", C_, kFloatType);
  }
  if (!training) saved = {};
}

// Returns the fp32 output where the linear layer reads a copy of it.
TorchTensor EagerTrace::normalise(SavedNorm& saved) {
  TorchTensor output = rows_of("layer_norm", C_, kFloatType);
  saved.mean = rows_of("layer_norm.mean", 1, kFloatType);
  saved.rstd = rows_of("layer_norm.rstd", 1, kFloatType);
  if (autocast()) {
    saved.output = rows_of("layer_norm.autocast", C_);
    return output;
  }
  saved.output = std::move(output);
  return {};
}

TorchTensor EagerTrace::linear(Linear& layer, const char* name) {
  before_product();
  cast(layer.weight);
  cast(layer.bias);
  return rows_of(name, layer.weight.rows);
}

TorchTensor EagerTrace::dropped(TorchTensor x, TorchTensor& mask, bool training) {
  if (!training || !dropout()) return x;
  const bool wide = &mask == &embedding_mask_;
  TorchTensor output = wide ? rows_of("dropout", C_, kFloatType) : rows_of("dropout", C_);
  mask = rows_of("dropout.mask", C_, kBoolType);
  return output;
}

// ---- backward ---------------------------------------------------------------------------------

void EagerTrace::backward(TorchTensor inputs, TorchTensor targets) {
  TorchTensor of_logits;
  {
    TorchTensor of_loss = rows_of("nll_loss_backward", V_, kFloatType);
    targets.free();
    loss_weight_.free();
    of_logits = rows_of("log_softmax_backward", V_, kFloatType);
    log_probabilities_.free();
  }
  if (autocast()) of_logits = rows_of("logits.grad", V_);

  // The head's part of the table's gradient waits for the embedding's.
  TorchTensor of_x = rows_of("linear.grad_input", C_);
  TorchTensor of_table = like("linear.grad_weight", wte_, type_);
  of_logits.free();
  ln_f_saved_.output.free();
  wte_.half.free();
  of_table = weight_gradient(wte_, std::move(of_table));
  norm_backward(ln_f_, ln_f_saved_, std::move(of_x));
  for (std::size_t i = blocks_.size(); i-- > 0;) block_backward(blocks_[i], saved_[i]);

  if (dropout()) gradient_ = rows_of("dropout.grad", C_, kFloatType);
  embedding_mask_.free();
  {
    TorchTensor of_positions = device_.tensor("sum", {T_, C_}, kFloatType);
    of_positions = like("embedding.grad", wpe_, kFloatType);
    if (!wpe_.gradient.exists()) wpe_.gradient = std::move(of_positions);
  }
  position_.free();
  {
    const TorchTensor sorted = rows_of("embedding.sorted", 1, kInt64Type);
    const TorchTensor order = rows_of("embedding.order", 1, kInt64Type);
    const TorchTensor of_embedding = like("embedding.grad", wte_, kFloatType);
    gradient_.free();
  }
  inputs.free();
  if (!wte_.gradient.exists()) wte_.gradient = std::move(of_table);
}

void EagerTrace::block_backward(TransformerBlock& block, SavedBlock& saved) {
  TorchTensor of_y = linear_backward(block.mlp_c_proj, branch_gradient(saved.mlp_mask), saved.gelu);
  of_y = rows_of("gelu.grad", 4 * C_);
  saved.fc.free();
  norm_backward(block.ln_2, saved.ln_2,
                linear_backward(block.c_fc, std::move(of_y), saved.ln_2.output));

  // The attention's output is also saved by its projection.
  TorchTensor nothing;
  TorchTensor of_attention =
      linear_backward(block.attn_c_proj, branch_gradient(saved.attention_mask), nothing);
  TorchTensor of_qkv;
  {
    const TorchTensor q = rows_of("attention.grad_q", C_);
    const TorchTensor k = rows_of("attention.grad_k", C_);
    const TorchTensor v = rows_of("attention.grad_v", C_);
    {
      const TorchTensor softmax = device_.tensor("attention.softmax_d", {B_, H_, T_}, kFloatType);
      const TorchTensor sums = rows_of("attention.grad_q_sums", C_, kFloatType);
    }
    of_attention.free();
    saved.qkv.free();
    saved.attention.free();
    saved.logsumexp.free();
    saved.rng_state.free();
    of_qkv = rows_of("qkv.grad", 3 * C_);
  }
  norm_backward(block.ln_1, saved.ln_1,
                linear_backward(block.c_attn, std::move(of_qkv), saved.ln_1.output));
}

// The residual stream's gradient as the end of a branch reads it: cast, and masked.
TorchTensor EagerTrace::branch_gradient(TorchTensor& mask) {
  TorchTensor gradient = autocast() ? rows_of("residual.grad", C_) : TorchTensor();
  if (dropout()) {
    gradient = rows_of("dropout.grad", C_);
    mask.free();
  }
  return gradient;
}

// Both products of a linear layer; `gradient` (of its output), its input and its weight's copy are
// freed after them. Returns the gradient of its input.
TorchTensor EagerTrace::linear_backward(Linear& layer, TorchTensor gradient, TorchTensor& input) {
  TorchParameter& weight = layer.weight;
  TorchTensor of_input = rows_of("linear.grad_input", weight.columns);
  TorchTensor of_weight = like("linear.grad_weight", weight, type_);
  TorchTensor of_bias;
  if (layer.bias.rows > 0) of_bias = like("linear.grad_bias", layer.bias, type_);
  gradient.free();
  input.free();
  weight.half.free();
  for (auto& [parameter, part] : {std::pair(&weight, &of_weight), {&layer.bias, &of_bias}}) {
    if (!part->exists()) continue;
    TorchTensor sum = weight_gradient(*parameter, std::move(*part));
    if (!parameter->gradient.exists()) parameter->gradient = std::move(sum);
  }
  return of_input;
}

// Of a LayerNorm's input, added to the residual stream's where that has one.
void EagerTrace::norm_backward(LayerNorm& norm, SavedNorm& saved, TorchTensor gradient) {
  if (autocast()) gradient = rows_of("layer_norm.grad_output", C_, kFloatType);
  TorchTensor of_input = rows_of("layer_norm.grad_input", C_, kFloatType);
  for (TorchParameter* p : {&norm.weight, &norm.bias}) {
    if (p->rows == 0) continue;
    TorchTensor of_parameter = like("layer_norm.grad", *p, kFloatType);
    if (!p->gradient.exists()) p->gradient = std::move(of_parameter);
  }
  saved.input.free();
  saved.mean.free();
  saved.rstd.free();
  if (!gradient_.exists()) gradient_ = std::move(of_input);
}

// As fp32, which is what the parameter is.
TorchTensor EagerTrace::weight_gradient(TorchParameter& parameter, TorchTensor gradient) {
  if (!autocast()) return gradient;
  return like("weight.grad", parameter, kFloatType);
}

}  // namespace

std::unique_ptr<ModelTrace> eager_trace(TorchDevice& device, const NanogptRun& run) {
  return std::make_unique<EagerTrace>(device, run);
}

}  // namespace gpt2train
