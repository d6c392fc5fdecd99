// How much scratch each kernel takes: functions of shapes alone, in plain C++, so that the memory
// of a run on a GPU is known to the byte where there is none.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/table.h"

namespace gpt2train::cuda {

// Sums over rows: blocks of consecutive rows have a partial sum each. From the shape alone, as is
// all that decides an order of sums.
struct RowBlocks {
  constexpr explicit RowBlocks(std::int64_t row_count)
      : rows(row_count), count(std::clamp<std::int64_t>(row_count / 32, 1, 256)) {}
  constexpr std::int64_t begin(std::int64_t block) const { return block * rows / count; }

  std::int64_t rows, count;
};

// Gradients whose squares one block sums.
inline constexpr std::int64_t kNormPiece = 64 * 1024;
inline std::int64_t norm_pieces(const GradNorm& a) {
  return (a.gradients.count() + kNormPiece - 1) / kNormPiece;
}

// The gradient of the token table sorts its tokens by groups, and sums long runs in pieces.
struct TokenSort {
  static constexpr std::int64_t kMaxGroup = 64 * 1024;  // all pairs of a group are compared
  static constexpr std::int64_t kPieceLength = 64;      // tokens of a run that one block sums

  explicit TokenSort(const EmbeddingBackward& a)
      : group(std::min(a.d_out.rows(), kMaxGroup)), indices((group + 127) / 128 * 128) {
    const std::int64_t slots = ((group - 1) / kPieceLength + 1) * 2;
    bytes = static_cast<std::size_t>(3 * indices + slots * a.d_out.width()) * 4;
  }

  std::int64_t group;    // rows sorted at a time
  std::int64_t indices;  // of one index array, with its padding
  std::size_t bytes;     // order, rank and length, then the sums of pieces
};

// What every product may use, whatever the card: cuBLASLt splits long sums with it.
inline constexpr std::size_t kMatmulWorkspaceBytes = std::size_t{16} << 20;

// What attention by cuDNN may use. cuDNN tells what a plan takes only where the device is, so these
// are bounds, and plans that want more are not taken. Gradients that are the same bits every time
// need the scores' gradients in 16 bits, each side padded to the larger tile, 128. The plans of
// cuDNN 9.19 for sm_80, 86, 89 and 90 are within; nothing else was seen but up to 256 bytes.
struct CudnnScratch {
  static constexpr std::size_t kSmall = 4096;
  static constexpr std::int64_t kTile = 128;

  explicit CudnnScratch(const AttentionShape& s) {
    const std::int64_t heads = s.batch * s.heads, padded = (s.time + kTile - 1) / kTile * kTile;
    dots = static_cast<std::size_t>((heads * s.time * 4 + 255) / 256 * 256);
    backward = static_cast<std::size_t>(heads * padded * padded * 2) + kSmall;
  }

  std::size_t forward = kSmall;
  std::size_t dots = 0;      // of the backward pass: an fp32 a query, before cuDNN's own
  std::size_t backward = 0;  // cuDNN's own
};

std::size_t embedding_backward_workspace(const EmbeddingBackward& args);
std::size_t matmul_workspace(const Matmul& args);
std::size_t bias_backward_workspace(const BiasBackward& args);
std::size_t layernorm_backward_workspace(const LayerNormBackward& args);
std::size_t attention_forward_workspace(const AttentionForward& args);
std::size_t attention_backward_workspace(const AttentionBackward& args);
std::size_t attention_forward_cudnn_workspace(const AttentionForward& args);
std::size_t attention_backward_cudnn_workspace(const AttentionBackward& args);
std::size_t grad_norm_workspace(const GradNorm& args);

}  // namespace gpt2train::cuda
