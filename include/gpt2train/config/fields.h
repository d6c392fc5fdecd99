// Every setting, once: the parser, the flags, --help, the README's table and the dump visit this
// list.
#pragma once

#include <limits>

#include "gpt2train/train/run_config.h"

namespace gpt2train {

// What a number, or the length of a text, may be. Infinities and NaN are in no range.
struct Range {
  double low = std::numeric_limits<double>::lowest();
  double high = std::numeric_limits<double>::max();
  bool high_is_open = false;  // high itself is refused
};

// Upper bounds keep every product of sizes that the program forms below 2^63.
inline constexpr Range kCount{1, 0x1p31};
inline constexpr Range kCountOrZero{0, 0x1p31};
inline constexpr Range kRate{0, 1000};
inline constexpr Range kBelowOne{0, 1, true};
inline constexpr Range kNotEmpty{1};

// The setting of a member is named after it. Undefined below the list.
#define GPT2_FIELD(group, member, ...) visit(#member, group.member, __VA_ARGS__)

// Calls visit.section(name), then visit(name, value, help) or visit(name, value, help, range) for
// each setting in it. Config is RunConfig or const RunConfig.
template <class Visitor, class Config>
void visit_fields(Visitor&& visit, Config& top) {
  visit.section("");
  GPT2_FIELD(top, out_dir, "directory for checkpoints, metrics and the page run.html", kNotEmpty);
  GPT2_FIELD(top, init_from,
             "scratch, resume, weights (a file or a directory), or gpt2, gpt2-medium, ...",
             kNotEmpty);
  GPT2_FIELD(top, seed, "of initial weights, data order and dropout");
  GPT2_FIELD(top, device, "where to run; a card, such as rtx3060: cuda, with memory.device");
  GPT2_FIELD(top, dtype, "of activations, and of weights as kernels read them");
  GPT2_FIELD(top, tf32, "float32 matrix products on a GPU: faster, with factors of 11 bits");
  GPT2_FIELD(top, tune_matmul, "on a GPU, choose algorithms of matrix products by timing them");
  GPT2_FIELD(top, cuda_graphs, "on a GPU, repeat micro-batches by one launch each");
  GPT2_FIELD(top, attention, "on a GPU: our kernels or cuDNN's; auto: cuDNN's where they apply");

  visit.section("model");
  auto& model = top.model;
  GPT2_FIELD(model, n_layer, "transformer blocks", Range{1, 1024});
  GPT2_FIELD(model, n_head, "attention heads of a block; divides n_embd", Range{1, 256});
  GPT2_FIELD(model, n_embd, "width: values a token", Range{1, 16384});
  GPT2_FIELD(model, block_size, "tokens of a sequence", Range{1, 0x1p20});
  GPT2_FIELD(model, vocab_size, "different tokens; 65536 is what uint16 holds", Range{1, 65536});
  GPT2_FIELD(model, bias, "whether linear layers and LayerNorms have biases");
  GPT2_FIELD(model, dropout, "share of values dropped in training", kBelowOne);
  GPT2_FIELD(model, gelu, "erf is exact, as in nanoGPT; tanh is OpenAI's form");

  visit.section("data");
  auto& data = top.data;
  GPT2_FIELD(data, train, "training tokens: a file or a glob of files", kNotEmpty);
  GPT2_FIELD(data, val, "validation tokens: a file or a glob of files", kNotEmpty);
  GPT2_FIELD(data, format, "of token files; auto goes by content, then by name");
  GPT2_FIELD(data, vocab,
             "directory of the vocabulary, to show samples as text; empty: as beside train");

  visit.section("training");
  auto& training = top.training;
  GPT2_FIELD(training, batch_size, "sequences a micro-batch, where memory allows", kCount);
  GPT2_FIELD(training, gradient_accumulation_steps, "micro-batches an iteration", kCount);
  GPT2_FIELD(training, max_iters, "iterations: updates of the weights", kCountOrZero);
  GPT2_FIELD(training, log_interval, "iterations between lines on the screen", kCount);

  visit.section("evaluation");
  auto& evaluation = top.evaluation;
  GPT2_FIELD(evaluation, eval_interval, "iterations between evaluations", kCount);
  GPT2_FIELD(evaluation, eval_iters, "batches of batch_size sequences, each split", kCount);
  GPT2_FIELD(evaluation, eval_micro_batch, "sequences at a time, at most; 0: as in training",
             kCountOrZero);
  GPT2_FIELD(evaluation, eval_only, "stop after the first evaluation");
  GPT2_FIELD(evaluation, sample_tokens, "tokens of a text to write at each evaluation; 0: none",
             kCountOrZero);

  visit.section("optimizer");
  auto& optimizer = top.optimizer;
  GPT2_FIELD(optimizer, learning_rate, "highest learning rate of AdamW", kRate);
  GPT2_FIELD(optimizer, min_lr, "learning rate where the decay ends", kRate);
  GPT2_FIELD(optimizer, warmup_iters, "iterations of linear warm-up", kCountOrZero);
  GPT2_FIELD(optimizer, lr_decay_iters, "iteration at which the decay ends", kCountOrZero);
  GPT2_FIELD(optimizer, decay_lr, "warm up, then decay by a cosine; false: constant");
  GPT2_FIELD(optimizer, weight_decay, "of matrices; vectors have none", kRate);
  GPT2_FIELD(optimizer, beta1, "decay of the gradient's mean", kBelowOne);
  GPT2_FIELD(optimizer, beta2, "decay of the squared gradient's mean", kBelowOne);
  GPT2_FIELD(optimizer, adam_eps, "keeps AdamW from dividing by zero", Range{1e-30, 1});
  GPT2_FIELD(optimizer, grad_clip, "largest gradient norm; 0 is no limit", Range{0, 1e9});

  visit.section("checkpoint");
  auto& checkpoint = top.checkpoint;
  GPT2_FIELD(checkpoint, checkpoint_interval, "iterations; 0: at evaluations", kCountOrZero);
  GPT2_FIELD(checkpoint, keep_checkpoints, "newest checkpoints to keep", kCount);
  GPT2_FIELD(checkpoint, always_save_checkpoint, "false: only when validation loss improves");

  visit.section("logging");
  auto& logging = top.logging;
  GPT2_FIELD(logging, tensorboard, "write files for TensorBoard into out_dir");

  visit.section("memory");
  auto& memory = top.memory;
  GPT2_FIELD(memory, limit, "most that the run may take; auto: what is free at its start");
  GPT2_FIELD(memory, plan, "auto: make the run fit before it starts; off: when memory runs out");
  GPT2_FIELD(memory, tune, "time a few of the plans that fit before the run, and take the fastest");
  GPT2_FIELD(memory, grow, "raise a micro-batch that was lowered when memory becomes free");
  GPT2_FIELD(memory, segments, "expandable: segments grow, and less is lost between tensors");
  GPT2_FIELD(memory, device, "card whose memory to simulate, such as rtx3060; empty: none");
  GPT2_FIELD(memory, trace, "file of memory over time: .csv, .json, .pickle, .html; empty: none");
  GPT2_FIELD(memory, recompute, "what to compute again to save memory; auto: the least that fits");
  GPT2_FIELD(memory, recompute_layers,
             "of block, how many of the first; 0: all, or what auto finds", Range{0, 1024});
  GPT2_FIELD(memory, logits, "chunked: logits_rows at a time; full: all rows, as in nanoGPT");
  GPT2_FIELD(memory, logits_rows, "rows (tokens) of a chunk of logits", kCount);
  GPT2_FIELD(memory, moments, "of AdamW, as stored; what is not float32 is rounded stochastically");
  GPT2_FIELD(memory, master_weights, "false: no float32 weights beside bfloat16 ones");
  GPT2_FIELD(memory, offload, "what a GPU keeps in host memory; optimizer: moments and masters");
}

#undef GPT2_FIELD

}  // namespace gpt2train
