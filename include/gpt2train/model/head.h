// The tied head and the loss: logits = x wte^T, one chunk of rows alive at a time, each turned into
// its gradient in place, so the logits of a whole micro-batch exist only where `logits: full` asks.
#pragma once

#include <cstdint>

#include "gpt2train/model/pass.h"

namespace gpt2train {

struct HeadMode {
  Logits logits = Logits::kChunked;
  std::int64_t chunk_rows = 1024;  // rows of a chunk; kFull takes all B * T
};

// losses (B * T) fp32 receives each position's cross-entropy; targets (B, T) int32, negative ones
// ignored. x is (B, T, C), wte (padded vocabulary, C).
void head_loss(const Pass& pass, const HeadMode& mode, const TensorView& losses,
               const TensorView& x, const TensorView& wte, const TensorView& targets);

// And the gradients of scale * sum(losses): d_x (B, T, C) is written, d_wte (padded vocabulary, C)
// fp32 written or added to.
void head_loss_backward(const Pass& pass, const HeadMode& mode, const TensorView& losses,
                        const TensorView& d_x, const TensorView& d_wte, const TensorView& x,
                        const TensorView& wte, const TensorView& targets, float scale,
                        bool accumulate);

// Logits of the given rows (rows, C) as (rows, padded vocabulary), for sampling and verification.
Tensor head_logits(const Pass& pass, const TensorView& rows, const TensorView& wte);

}  // namespace gpt2train
