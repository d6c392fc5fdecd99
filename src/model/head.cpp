#include "gpt2train/model/head.h"

#include <algorithm>

#include "gpt2train/ops/ops.h"
#include "src/model/linear.h"

namespace gpt2train {
namespace {

std::int64_t rows_alive(const HeadMode& mode, std::int64_t rows) {
  return mode.logits == Logits::kFull ? rows : std::min(rows, mode.chunk_rows);
}

Tensor make_logits(const Pass& pass, std::int64_t rows, std::int64_t columns) {
  return {pass.exec.memory(),
          Tag::kLogits,
          "logits",
          pass.precision.of(Role::kActivation),
          {rows, columns}};
}

TensorView flat_slice(const TensorView& flat, std::int64_t first, std::int64_t count) {
  const TensorView column{flat.data, flat.dtype, {flat.count(), 1}};
  return column.slice_rows(first, count);
}

}  // namespace

void head_loss(const Pass& pass, const HeadMode& mode, const TensorView& losses,
               const TensorView& x, const TensorView& wte, const TensorView& targets) {
  const Scope scope(pass.exec, "head");
  const std::int64_t rows = x.rows(), step = rows_alive(mode, rows);
  const Tensor logits = make_logits(pass, step, wte.rows());
  for (std::int64_t first = 0; first < rows; first += step) {
    const std::int64_t count = std::min(step, rows - first);
    const TensorView chunk = logits.view().slice_rows(0, count);
    linear_forward(pass.exec, chunk, x.slice_rows(first, count), wte, {});
    ops::cross_entropy(pass.exec, {.logits = chunk,
                                   .losses = flat_slice(losses, first, count),
                                   .targets = flat_slice(targets, first, count),
                                   .vocab = pass.config.vocab_size});
  }
}

void head_loss_backward(const Pass& pass, const HeadMode& mode, const TensorView& losses,
                        const TensorView& d_x, const TensorView& d_wte, const TensorView& x,
                        const TensorView& wte, const TensorView& targets, float scale,
                        bool accumulate) {
  const Scope scope(pass.exec, "head");
  const std::int64_t rows = x.rows(), step = rows_alive(mode, rows);
  const Tensor logits = make_logits(pass, step, wte.rows());
  for (std::int64_t first = 0; first < rows; first += step) {
    const std::int64_t count = std::min(step, rows - first);
    const TensorView chunk = logits.view().slice_rows(0, count);
    const TensorView x_rows = x.slice_rows(first, count);
    linear_forward(pass.exec, chunk, x_rows, wte, {});
    ops::cross_entropy(pass.exec, {.logits = chunk,
                                   .losses = flat_slice(losses, first, count),
                                   .targets = flat_slice(targets, first, count),
                                   .vocab = pass.config.vocab_size,
                                   .scale = scale,
                                   .write_gradient = true});
    linear_backward_input(pass.exec, d_x.slice_rows(first, count), chunk, wte);
    linear_backward_weight(pass.exec, d_wte, {}, chunk, x_rows, accumulate || first > 0);
  }
}

Tensor head_logits(const Pass& pass, const TensorView& rows, const TensorView& wte) {
  const Scope scope(pass.exec, "head");
  Tensor logits = make_logits(pass, rows.rows(), wte.rows());
  linear_forward(pass.exec, logits, rows, wte, {});
  return logits;
}

}  // namespace gpt2train
