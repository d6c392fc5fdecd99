// A whole training run small enough for a test: token files in a temporary directory, a model of a
// few thousand parameters, a recording observer.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/core/rng.h"
#include "gpt2train/data/loader.h"
#include "gpt2train/ops/backend.h"
#include "gpt2train/train/trainer.h"
#include "tests/support/temp_dir.h"

namespace gpt2train::test {

inline RunConfig tiny_config() {
  RunConfig config;
  config.dtype = DType::kFloat32;
  config.seed = 42;
  config.model = {.n_layer = 2,
                  .n_head = 2,
                  .n_embd = 16,
                  .block_size = 8,
                  .vocab_size = 37,
                  .bias = true,
                  .dropout = 0.0,
                  .gelu = GeluForm::kErf};
  config.training.batch_size = 4;
  config.training.gradient_accumulation_steps = 3;
  config.training.max_iters = 4;
  config.evaluation.eval_interval = 2;
  config.evaluation.eval_iters = 2;
  config.optimizer.learning_rate = 1e-2;
  config.optimizer.min_lr = 1e-3;
  config.optimizer.warmup_iters = 1;
  config.optimizer.lr_decay_iters = 100;
  config.memory.logits_rows = 16;
  return config;
}

class Recorder final : public TrainObserver {
 public:
  void on_plan(const PlanEvent& event) override { plans.push_back(event); }
  void on_step(const StepEvent& event) override { steps.push_back(event); }
  void on_evaluation(const EvalEvent& event) override { evaluations.push_back(event); }
  void on_out_of_memory(const OutOfMemoryEvent& event) override { out_of_memory.push_back(event); }
  void on_checkpoint(const CheckpointEvent& event) override { checkpoints.push_back(event); }
  void on_end(const EndEvent& event) override { end = event; }
  void on_note(const std::string& text) override { notes.push_back(text); }

  std::vector<PlanEvent> plans;
  std::vector<StepEvent> steps;
  std::vector<EvalEvent> evaluations;
  std::vector<OutOfMemoryEvent> out_of_memory;
  std::vector<CheckpointEvent> checkpoints;
  std::optional<EndEvent> end;
  std::vector<std::string> notes;
};

// Everything that a Trainer stands on.
class TinyRun {
 public:
  explicit TinyRun(RunConfig c, std::size_t budget = CachingAllocator::kNoBudget,
                   std::int64_t token_count = 4000,
                   std::unique_ptr<Backend> device = open_cpu_backend())
      : config(std::move(c)),
        backend(std::move(device)),
        memory(backend->upstream(), budget, config.memory.segments) {
    if (config.out_dir == "out") config.out_dir = directory.path();
    const std::string path = directory.path() + "/tokens.bin";
    std::ofstream file(path, std::ios::binary);
    for (std::uint32_t i = 0; i < token_count; ++i) {
      const std::uint64_t word = philox({i / 3, 0, 0, 0}, 5)[0];  // runs of three: learnable
      const auto token = static_cast<std::uint16_t>(below(word << 32, config.model.vocab_size));
      file.write(reinterpret_cast<const char*>(&token), sizeof token);
    }
    file.close();
    source.emplace(path, TokenFormat::kNanoGpt, config.model.vocab_size);
    const auto loader = [&](std::optional<Loader>& to, RandomUse use) {
      to.emplace(*source, "data.train", config.model.block_size, config.seed, use);
    };
    loader(train_data, RandomUse::kTrainSample);
    loader(eval_data, RandomUse::kEvalSample);
  }

  TrainerSetup setup() {
    return {.backend = *backend,
            .memory = memory,
            .config = config,
            .config_yaml = "seed: 42\n",
            .train_data = *train_data,
            .train_eval_data = *eval_data,
            .val_data = *eval_data,
            .observer = recorder,
            .interrupted = interrupted,
            .peak_flops_per_second = 0.0};
  }

  TempDir directory;
  RunConfig config;
  std::unique_ptr<Backend> backend;
  CachingAllocator memory;
  std::optional<TokenSource> source;
  std::optional<Loader> train_data, eval_data;
  Recorder recorder;
  std::function<bool()> interrupted;
};

// The fp32 weights of a state in host memory, without padding.
inline std::vector<float> weights_of(const ModelState& state) {
  std::vector<float> all;
  for (const TensorToStore& tensor : state.checkpoint_weights()) {
    const std::size_t at = all.size();
    all.resize(at + tensor.bytes.size() / sizeof(float));
    std::memcpy(all.data() + at, tensor.bytes.data(), tensor.bytes.size());
  }
  return all;
}

}  // namespace gpt2train::test
