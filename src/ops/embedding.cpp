#include "gpt2train/ops/ops.h"
#include "src/ops/launch.h"
#include "src/ops/scratch.h"

namespace gpt2train::ops {
namespace {

void check_tables(const TensorView& activations, const TensorView& tokens,
                  const TensorView& token_table, const TensorView& position_table) {
  const std::int64_t width = activations.width();
  GPT2_CHECK(activations.shape.rank() == 3 && activations.rows() == tokens.count(),
             "embedding: activations ", activations.shape, " for tokens ", tokens.shape);
  GPT2_CHECK(tokens.dtype == DType::kInt32, "embedding: tokens are ", name_of(tokens.dtype));
  GPT2_CHECK(token_table.width() == width && position_table.width() == width, "embedding: tables ",
             token_table.shape, " and ", position_table.shape, ", width ", width);
  GPT2_CHECK(activations.shape[1] <= position_table.rows(), "embedding: time ",
             activations.shape[1], " is beyond the position table ", position_table.shape);
}

}  // namespace

void embedding_forward(const Exec& exec, const EmbeddingForward& args) {
  check_tables(args.out, args.tokens, args.token_table, args.position_table);
  GPT2_CHECK(
      args.token_table.dtype == args.out.dtype && args.position_table.dtype == args.out.dtype,
      "embedding: tables and output differ in dtype");
  launch(exec, "embedding_forward", exec.kernels().embedding_forward, args);
}

void embedding_backward(const Exec& exec, EmbeddingBackward args) {
  check_tables(args.d_out, args.tokens, args.d_token_table, args.d_position_table);
  GPT2_CHECK(
      args.d_token_table.dtype == DType::kFloat32 && args.d_position_table.dtype == DType::kFloat32,
      "embedding: table gradients are fp32");
  const Buffer scratch = take_workspace(exec, exec.kernels().embedding_backward_workspace, args,
                                        "embedding_backward_scratch");
  launch(exec, "embedding_backward", exec.kernels().embedding_backward, args);
}

}  // namespace gpt2train::ops
