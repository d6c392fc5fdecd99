// What each call moves and computes, for profiles.
#pragma once

#include "gpt2train/ops/profiler.h"
#include "kernels/table.h"

namespace gpt2train::ops {

template <class... Views>
double bytes_of(const Views&... views) {
  return (0.0 + ... + (views.present() ? static_cast<double>(views.bytes()) : 0.0));
}

// Of the rows of a table that tokens pick, only those.
inline Work work_of(const EmbeddingForward& a) {
  return {.bytes = 3.0 * bytes_of(a.out)};
}
inline Work work_of(const EmbeddingBackward& a) {
  return {.bytes = bytes_of(a.d_out) * 2.0 + bytes_of(a.d_position_table) +
                   static_cast<double>(a.d_out.count()) * 2.0 * sizeof(float)};
}
inline Work work_of(const Matmul& a) {
  const auto inner = static_cast<double>(a.transpose_a ? a.a.rows() : a.a.width());
  return {.bytes = bytes_of(a.out, a.a, a.b, a.bias) + (a.accumulate ? bytes_of(a.out) : 0.0),
          .flops = 2.0 * static_cast<double>(a.out.count()) * inner};
}
inline Work work_of(const BiasBackward& a) {
  return {.bytes = bytes_of(a.d_out, a.d_bias)};
}
inline Work work_of(const LayerNormForward& a) {
  return {.bytes = bytes_of(a.out, a.mean, a.rstd, a.in, a.branch, a.sum, a.gamma, a.beta)};
}
inline Work work_of(const LayerNormBackward& a) {
  return {.bytes = bytes_of(a.d_in, a.d_in, a.d_out, a.in, a.mean, a.rstd, a.gamma)};
}
inline Work work_of(const LayerNormRecompute& a) {
  return {.bytes = bytes_of(a.out, a.in, a.mean, a.rstd, a.gamma, a.beta)};
}
inline Work work_of(const ResidualForward& a) {
  return {.bytes = bytes_of(a.out, a.in, a.branch)};
}
inline Work work_of(const DropoutBackward& a) {
  return {.bytes = bytes_of(a.out, a.in)};
}
inline Work work_of(const GeluForward& a) {
  return {.bytes = bytes_of(a.out, a.in)};
}
inline Work work_of(const GeluBackward& a) {
  return {.bytes = bytes_of(a.d_in, a.d_out, a.in)};
}
// Products of (T, D) matrices over the causal half, two forward and five backward.
inline Work work_of(const AttentionForward& a) {
  const auto time = static_cast<double>(a.out.shape[1]);
  return {.bytes = bytes_of(a.out, a.lse, a.qkv),
          .flops = 2.0 * static_cast<double>(a.out.count()) * time};
}
inline Work work_of(const AttentionBackward& a) {
  const auto time = static_cast<double>(a.out.shape[1]);
  return {.bytes = bytes_of(a.d_qkv, a.d_out, a.out, a.lse, a.qkv),
          .flops = 5.0 * static_cast<double>(a.out.count()) * time};
}
// Of the caches, the rows up to the last query; scores and sums of these.
inline Work work_of(const AttentionCached& a) {
  const auto rows = static_cast<double>(a.position + a.out.shape[1]);
  const double share = rows / static_cast<double>(a.k.shape[1]);
  return {.bytes = bytes_of(a.out, a.qkv) + share * bytes_of(a.k, a.v),
          .flops = 4.0 * static_cast<double>(a.out.count()) *
                   (rows - static_cast<double>(a.out.shape[1] - 1) / 2.0)};
}
inline Work work_of(const CrossEntropy& a) {
  return {.bytes = bytes_of(a.logits, a.losses, a.targets) * (a.write_gradient ? 2.0 : 1.0)};
}
inline Work work_of(const LossSum& a) {
  return {.bytes = bytes_of(a.losses)};
}
inline Work work_of(const GradNorm& a) {
  return {.bytes = bytes_of(a.gradients)};
}
// Weights are written from the masters, or read and written.
inline Work work_of(const AdamW& a) {
  const TensorView& updated = a.masters.present() ? a.masters : a.weights;
  return {.bytes = bytes_of(a.weights, a.masters, updated, a.gradients, a.m, a.m, a.v, a.v)};
}
inline Work work_of(const Fill& a) {
  return {.bytes = bytes_of(a.out)};
}
inline Work work_of(const Cast& a) {
  return {.bytes = bytes_of(a.out, a.in)};
}

}  // namespace gpt2train::ops
