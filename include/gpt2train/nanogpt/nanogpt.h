// nanoGPT's own memory on a GPU, from the tensors that PyTorch makes when it runs train.py: which
// batch_size a card holds, and where a larger one dies.
//
// The tensors are those of karpathy/nanoGPT under autocast, with fused attention and fused AdamW:
// - eager: what each aten operator returns and what autograd saves. This repeats PyTorch exactly;
//   bench/peers/nanogpt_memory.py compares the two.
// - compiled: what AOTAutograd's min-cut partitioner saves in PyTorch 2.15 and the buffers that
//   Inductor cannot fuse away. Other versions save less (they compute GELU and the normalised
//   input again) or more; published figures lie between 0.39 and 0.63 MB a token of GPT-2 124M.
// Scratch inside kernels is counted where it grows with the batch: attention's backward pass. What
// torch.compile takes while it compiles, the CUDA context and libraries are not in here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "gpt2train/core/dtype.h"
#include "gpt2train/model/config.h"
#include "gpt2train/nanogpt/torch_allocator.h"

namespace gpt2train {

enum class NanogptForm : std::uint8_t { kEager, kCompiled };  // compile=False, compile=True
const char* name_of(NanogptForm form);                        // "nanogpt", "nanogpt-compiled"

// In the order of train.py's first iterations.
enum class NanogptPhase : std::uint8_t { kSetup, kEvaluation, kForward, kBackward, kOptimizer };
inline constexpr std::size_t kNanogptPhases = 5;
const char* name_of(NanogptPhase phase);  // "setup", "evaluation", "forward", ...

// cuBLAS's default workspace on devices other than Hopper, allocated at the first product:
// CUBLAS_WORKSPACE_CONFIG=:4096:2:16:8.
inline constexpr std::size_t kCublasWorkspaceBytes = 2 * 4096 * 1024 + 8 * 16 * 1024;

struct NanogptRun {
  ModelConfig model = {};
  std::int64_t batch_size = 12;
  std::int64_t gradient_accumulation_steps = 40;
  DType dtype = DType::kBFloat16;  // of autocast; kFloat32 is none
  NanogptForm form = NanogptForm::kEager;
  std::size_t cublas_workspace_bytes = kCublasWorkspaceBytes;
};

struct NanogptFailure {
  std::string tensor;
  std::string shape;  // "(65536, 50304)"
  std::string dtype;  // "bf16"
  NanogptPhase phase = NanogptPhase::kSetup;
  std::size_t requested_bytes = 0;
  std::size_t live_bytes = 0;      // "allocated by PyTorch" in its message
  std::size_t reserved_bytes = 0;  // live ones and what the cache could not give back
  std::size_t largest_free_block_bytes = 0;
};

struct NanogptMemory {
  std::optional<NanogptFailure> failure;  // empty: it fits
  TorchAllocator::Stats stats;
  std::size_t peak_by_phase[kNanogptPhases] = {};  // live bytes
  // What a training forward pass leaves for the backward pass, logits and weights' copies included.
  std::size_t forward_keeps_bytes = 0;
};

// Setup, estimate_loss, two iterations, estimate_loss again: after that it repeats. `free_bytes` is
// what the card leaves to PyTorch's tensors: less other processes, the CUDA context and libraries.
NanogptMemory simulate_nanogpt(const NanogptRun& run, std::size_t free_bytes,
                               TorchSegments segments);

// The largest batch_size found to fit, by doubling and halving; 0 where 1 does not.
std::int64_t largest_nanogpt_batch(NanogptRun run, std::size_t free_bytes, TorchSegments segments);

}  // namespace gpt2train
