// Checkpoints on disk: a directory step-00000100 with model.safetensors, optimizer.safetensors,
// config.yaml and, written last, manifest.json with the size and XXH3 checksum of each. Everything
// is written to a .tmp directory beside, fsynced, then renamed: a directory without .tmp is whole,
// or a disk lied, and then the checksums tell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/data/safetensors.h"
#include "gpt2train/train/loss_scale.h"

namespace gpt2train {

// What training needs besides tensors to go on bit for bit. Random numbers are functions of
// (seed, index), so the cursor is all their state.
struct TrainState {
  std::int64_t iteration = 0;     // iterations completed
  std::int64_t updates = 0;       // optimizer updates applied (skipped steps do not count)
  std::uint64_t next_sample = 0;  // run-wide index of the next training sample
  std::uint64_t seed = 0;
  std::optional<LossScale> loss_scale = {};  // of float16 alone
  double best_val_loss = 1e30;
  std::int64_t micro_batch = 0;  // the plan in force, to resume with the same sums
  std::int64_t accumulation = 0;
  std::string recompute = "none";
};

struct CheckpointContents {
  TrainState state;
  std::string config_yaml;               // resolved config
  std::vector<TensorToStore> weights;    // for model.safetensors
  std::vector<TensorToStore> optimizer;  // for optimizer.safetensors
  // How the bytes of tensors come to host memory; empty: they are there.
  std::function<void(void* to, const void* from, std::size_t bytes)> download = {};
};

struct FoundCheckpoint {
  std::string path;
  std::int64_t iteration = 0;
};

// Writes out_dir/step-<iteration>, then removes complete checkpoints beyond the newest `keep`
// (never the one just written). Returns its path. Throws CheckpointError (full disk, no permission)
// after removing what it had begun; older checkpoints are untouched then.
std::string write_checkpoint(const std::string& out_dir, const CheckpointContents& contents,
                             std::int64_t keep);

// Checkpoint directories in out_dir, newest first; .tmp ones are not checkpoints.
std::vector<FoundCheckpoint> list_checkpoints(const std::string& out_dir);

// Checks manifest, sizes and checksums. Returns the problem, or nothing when it is whole.
std::optional<std::string> checkpoint_problem(const std::string& path);

// The newest whole checkpoint; `rejected` receives "path: problem" for each newer one that is not.
// Throws CheckpointError when there is none.
FoundCheckpoint newest_whole_checkpoint(const std::string& out_dir,
                                        std::vector<std::string>& rejected);

// Reads state and resolved config of a checkpoint. Throws CheckpointError.
TrainState read_train_state(const std::string& path);
std::string read_checkpoint_config(const std::string& path);

}  // namespace gpt2train
