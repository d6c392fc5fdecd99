#include "kernels/embedding.h"

#include "tests/support/backend.h"
#include "tests/support/kernel_case.h"

namespace gpt2train::test {
namespace {

constexpr std::int64_t kTableRows = 50, kPositions = 40;

class Embedding : public FloatKernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Embedding, kFloatTypes, dtype_name);

Dropout dropout(float rate) {
  return {.rate = rate, .seed = 9, .first_sample = 77, .use = RandomUse::kDropoutEmbedding};
}

// Few distinct tokens, so that rows of the table collect many gradients.
std::vector<std::int32_t> tokens_for(std::int64_t count) {
  std::vector<std::int32_t> tokens;
  for (const float u : uniform(count, 5, 0.0f, 1.0f)) {
    tokens.push_back(static_cast<std::int32_t>(u * u * kTableRows));
  }
  return tokens;
}

TEST_P(Embedding, AddsTokenAndPositionRows) {
  for (const std::int64_t width : kWidths) {
    for (const auto& [batch, time] : {std::pair{1, 1}, {3, 37}}) {
      for (const float rate : {0.0f, 0.3f}) {
        const std::vector<std::int32_t> ids = tokens_for(batch * time);
        const GuardedTensor tokens({batch, time}, ids), out(dtype(), {batch, time, width});
        const GuardedTensor token_table(dtype(), {kTableRows, width},
                                        uniform(kTableRows * width, 1));
        const GuardedTensor position_table(dtype(), {kPositions, width},
                                           uniform(kPositions * width, 2));
        backend::embedding_forward({.out = out,
                                    .tokens = tokens,
                                    .token_table = token_table,
                                    .position_table = position_table,
                                    .dropout = dropout(rate)},
                                   {});
        const std::vector<double> token = token_table.values(), position = position_table.values();
        std::vector<double> expected;
        for (std::int64_t i = 0; i < batch * time * width; ++i) {
          const std::int64_t row = i / width, column = i % width;
          const auto id = ids[static_cast<std::size_t>(row)];
          expected.push_back((token[static_cast<std::size_t>(id * width + column)] +
                              position[static_cast<std::size_t>(row % time * width + column)]) *
                             dropout_factor(dropout(rate), row, column, time, width));
        }
        EXPECT_LE(nmse(expected, out.values()), limit(1e-13, 1e-5)) << time << " x " << width;
      }
    }
  }
}

struct Gradients {
  std::vector<double> token_table, position_table;
};

Gradients run_backward(DType dtype, std::int64_t batch, std::int64_t time, std::int64_t width,
                       float rate, bool accumulate) {
  const GuardedTensor tokens({batch, time}, tokens_for(batch * time));
  const GuardedTensor d_out(dtype, {batch, time, width}, uniform(batch * time * width, 3));
  const GuardedTensor d_token(DType::kFloat32, {kTableRows, width}, uniform(kTableRows * width, 1));
  const GuardedTensor d_position(DType::kFloat32, {kPositions, width},
                                 uniform(kPositions * width, 2));
  EmbeddingBackward args = {.d_token_table = d_token,
                            .d_position_table = d_position,
                            .d_out = d_out,
                            .tokens = tokens,
                            .dropout = dropout(rate),
                            .accumulate = accumulate};
  GuardedBytes scratch(backend::embedding_backward_workspace(args));
  args.workspace = scratch.workspace();
  backend::embedding_backward(args, {});
  return {d_token.values(), d_position.values()};
}

TEST_P(Embedding, BackwardScattersIntoBothTables) {
  for (const std::int64_t width : kWidths) {
    for (const auto& [batch, time] : {std::pair{1, 1}, {3, 37}}) {
      for (const bool accumulate : {false, true}) {
        const float rate = accumulate ? 0.3f : 0.0f;
        const GuardedTensor d_out(dtype(), {batch, time, width}, uniform(batch * time * width, 3));
        const GuardedTensor before(DType::kFloat32, {kTableRows, width},
                                   uniform(kTableRows * width, 1));
        const GuardedTensor positions(DType::kFloat32, {kPositions, width},
                                      uniform(kPositions * width, 2));
        std::vector<double> token = before.values(), position = positions.values();
        if (!accumulate) position.assign(position.size(), 0.0);
        const std::vector<std::int32_t> ids = tokens_for(batch * time);
        const std::vector<double> d = d_out.values();
        for (std::int64_t i = 0; i < std::ssize(d); ++i) {
          const std::int64_t row = i / width, column = i % width;
          const double g = d[static_cast<std::size_t>(i)] *
                           dropout_factor(dropout(rate), row, column, time, width);
          token[static_cast<std::size_t>(ids[static_cast<std::size_t>(row)] * width + column)] += g;
          position[static_cast<std::size_t>(row % time * width + column)] += g;
        }
        const Gradients actual = run_backward(dtype(), batch, time, width, rate, accumulate);
        EXPECT_LE(nmse(token, actual.token_table), 1e-12) << time << " x " << width;
        EXPECT_LE(nmse(position, actual.position_table), 1e-12) << time << " x " << width;
      }
    }
  }
}

TEST_P(Embedding, BackwardDoesNotDependOnTheSchedule) {
  for (const std::int64_t width : {257, 768}) {
    expect_same_bits_in_any_schedule([&] {
      Gradients all = run_backward(dtype(), 5, 37, width, 0.1f, false);
      all.token_table.insert(all.token_table.end(), all.position_table.begin(),
                             all.position_table.end());
      return all.token_table;
    });
  }
}

}  // namespace
}  // namespace gpt2train::test
