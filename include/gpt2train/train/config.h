// The settings of the training loop, of the optimizer and of memory, with nanoGPT's names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "gpt2train/memory/allocator.h"
#include "gpt2train/model/config.h"

namespace gpt2train {

struct TrainingConfig {
  std::int64_t batch_size = 12;                   // sequences a micro-batch, where memory allows
  std::int64_t gradient_accumulation_steps = 40;  // micro-batches a step
  std::int64_t max_iters = 600000;
  std::int64_t log_interval = 1;

  // Sequences of a step: what stays fixed when memory forces a smaller micro-batch.
  std::int64_t effective_batch() const { return batch_size * gradient_accumulation_steps; }
};

struct EvaluationConfig {
  std::int64_t eval_interval = 2000;  // iterations between evaluations; the first is at iteration 0
  std::int64_t eval_iters = 200;      // batches of batch_size sequences, on each split
  std::int64_t eval_micro_batch = 0;  // sequences at a time, at most; 0: the plan's micro-batch
  bool eval_only = false;             // stop after the first evaluation
  std::int64_t sample_tokens = 0;     // of a text that is written at each; 0: none
};

struct OptimizerConfig {
  double learning_rate = 6e-4;
  double min_lr = 6e-5;
  std::int64_t warmup_iters = 2000;
  std::int64_t lr_decay_iters = 600000;
  bool decay_lr = true;
  double weight_decay = 0.1;  // of tensors with two dimensions or more
  double beta1 = 0.9;
  double beta2 = 0.95;
  double adam_eps = 1e-8;
  double grad_clip = 1.0;  // 0 turns clipping off
};

struct CheckpointConfig {
  std::int64_t checkpoint_interval = 0;  // iterations; 0: at every evaluation
  std::int64_t keep_checkpoints = 2;     // newest complete checkpoints to keep
  bool always_save_checkpoint = true;    // false: only when the validation loss improves
};

struct LoggingConfig {
  bool tensorboard = false;  // event files in out_dir
};

enum class PlanMode : std::uint8_t { kAuto, kOff };

// memory.limit: bytes, a fraction of the device's memory, or what is free at start.
struct MemoryLimit {
  enum class Kind : std::uint8_t { kAuto, kBytes, kFraction };
  Kind kind = Kind::kAuto;
  std::size_t bytes = 0;
  double fraction = 0.0;
};

enum class Moments : std::uint8_t { kFloat32, kBFloat16, kInt8 };

// What the optimizer alone touches, and host memory can have.
enum class Offload : std::uint8_t { kNone, kMoments, kOptimizer };

struct MemoryConfig {
  MemoryLimit limit = {};
  PlanMode plan = PlanMode::kAuto;  // off: start with batch_size, and lower it only on running out
  bool tune = false;                // time a few plans before the run, and take the fastest
  bool grow = true;                 // raise a lowered micro-batch when memory becomes free
  Segments segments = Segments::kFixed;
  std::string device = {};                  // a card to simulate the memory of, such as rtx3060
  std::string trace = {};                   // a file for every allocation and free; memory/trace.h
  std::optional<Recompute> recompute = {};  // empty: auto, the least that fits
  std::int64_t recompute_layers = 0;        // of recompute: block; 0: all, or with auto any
  Logits logits = Logits::kChunked;
  std::int64_t logits_rows = 1024;      // rows of a chunk
  Moments moments = Moments::kFloat32;  // how AdamW's m and v are stored
  bool master_weights = true;           // fp32 weights beside those of 16 bits
  Offload offload = Offload::kNone;     // kOptimizer: moments and master weights
};

}  // namespace gpt2train
