// Evaluation of trained models, where the answer is known by arithmetic or by another way.
#include "gpt2train/train/inference.h"

#include <cmath>

#include "gpt2train/ops/ops.h"
#include "gpt2train/train/choice_score.h"
#include "gpt2train/train/generator.h"
#include "gpt2train/train/text_loss.h"
#include "tests/support/sampling_case.h"

namespace gpt2train::test {
namespace {

// A model of tests on the CPU, with weights as they are drawn.
class Model {
 public:
  explicit Model(RunConfig c)
      : config(std::move(c)),
        backend_(open_cpu_backend()),
        memory(backend_->upstream(), CachingAllocator::kNoBudget),
        exec(backend_->kernels(), memory),
        state(exec, config.model, precision_of(config), Purpose::kInference) {
    state.initialise(exec, 7);
  }
  InferenceModel view() const { return {exec, config, state.weights()}; }

  const RunConfig config;

 private:
  std::unique_ptr<Backend> backend_;

 public:
  CachingAllocator memory;
  const Exec exec;
  ModelState state;
};

// Probabilities 1/2, 1/4, 1/8, 1/8: losses of 1, 2, 3 and 3 bits.
const std::vector<float> kLogits = {std::log(8.0f), std::log(4.0f), std::log(2.0f), std::log(2.0f)};

// Says the same of each token, whatever comes before: the final norm gives (1, 0, 0, ...), and a
// row of the head is (logit, 0, 0, ...).
class UnigramModel : public Model {
 public:
  UnigramModel() : Model(unigram_config()) {
    const ModelTensors& weights = state.weights();
    ops::fill(exec, {.out = state.flat_weights(), .value = 0.0f});
    weights.lnf_beta.as<float>()[0] = 1.0f;
    for (std::size_t v = 0; v < kLogits.size(); ++v) {
      weights.wte.as<float>()[static_cast<std::int64_t>(v) * weights.wte.width()] = kLogits[v];
    }
  }

 private:
  static RunConfig unigram_config() {
    RunConfig config = sampling_config(DType::kFloat32);
    config.model.block_size = 6;
    config.model.vocab_size = std::ssize(kLogits);
    return config;
  }
};

TokenText text_of(const std::vector<std::int32_t>& tokens) {
  return {.count = std::ssize(tokens),
          .read = [&](std::int64_t first, std::span<std::int32_t> out) {
            ASSERT_LE(first + std::ssize(out), std::ssize(tokens));
            std::copy_n(tokens.begin() + first, out.size(), out.begin());
          }};
}

TEST(Generator, ReadsTheLastTokensPastTheBlockAndKeepsNothing) {
  RunConfig config = sampling_config(DType::kFloat32);
  config.model.block_size = 7;
  const Model model(config);
  const std::size_t weights_alone = model.memory.stats().allocated_bytes;
  const std::vector<std::int32_t> tokens = prompt_of(10, config);
  const auto logits_after = [&](std::span<const std::int32_t> text) {
    Generator generator(model.view(), 1, 7);
    generator.start(text);
    return std::vector<float>(generator.logits(0).begin(), generator.logits(0).end());
  };
  Generator generator(model.view(), 1, 10);
  generator.start(std::span(tokens).first(7));
  EXPECT_GT(model.memory.stats().allocated_bytes, weights_alone);
  for (std::size_t read = 8; read <= tokens.size(); ++read) {
    generator.append(std::span(tokens).subspan(read - 1, 1));
    EXPECT_EQ(model.memory.stats().allocated_bytes, weights_alone)
        << "keys and values past " << read;
    const std::vector<float> expected = logits_after(std::span(tokens).subspan(read - 7, 7));
    for (std::size_t v = 0; v < expected.size(); ++v) {
      ASSERT_NEAR(generator.logits(0)[v], expected[v], 1e-6) << read << ", " << v;
    }
  }
  EXPECT_NE(logits_after(std::span(tokens).first(7)), logits_after(std::span(tokens).last(7)));
}

TEST(TextLoss, CountsEachTokenButTheFirstOnce) {
  const UnigramModel model;
  const double bit = std::log(2.0);
  const std::vector<std::int32_t> all = {3, 0, 0, 1, 2, 0, 3, 1, 1, 0, 2, 0, 0, 0, 3, 1};
  double bits = 0.0;
  for (std::size_t count = 2; count <= all.size(); ++count) {
    bits += std::vector{1.0, 2.0, 3.0, 3.0}[static_cast<std::size_t>(all[count - 1])];
    const std::vector<std::int32_t> tokens(all.begin(),
                                           all.begin() + static_cast<std::ptrdiff_t>(count));
    for (const std::int64_t stride : {1, 2, 5, 6}) {
      for (const std::int64_t rows : {1, 2, 3}) {
        const TextLoss loss = text_loss(model.view(), text_of(tokens), stride, rows);
        ASSERT_EQ(loss.tokens, std::ssize(tokens) - 1) << stride << ", " << rows;
        ASSERT_NEAR(loss.sum, bits * bit, 1e-5) << count << " tokens, stride " << stride;
      }
    }
  }
}

double loss_of(std::span<const float> logits, std::int32_t token) {
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(double{x});
  return std::log(sum) - double{logits[static_cast<std::size_t>(token)]};
}

// The same by generation, which reads a text token by token.
double generated_loss(const Model& model, const std::vector<std::int32_t>& tokens,
                      std::int64_t stride) {
  const std::int64_t T = model.config.model.block_size, predictions = std::ssize(tokens) - 1;
  double sum = 0.0;
  for (std::int64_t p = 0; p < predictions; ++p) {
    // The first window that predicts it.
    const std::int64_t window = p < T ? 0 : (p - T) / stride + 1;
    Generator generator(model.view(), 1, T);
    generator.start(std::span(tokens).subspan(static_cast<std::size_t>(window * stride),
                                              static_cast<std::size_t>(p - window * stride + 1)));
    sum += loss_of(generator.logits(0), tokens[static_cast<std::size_t>(p + 1)]);
  }
  return sum;
}

TEST(TextLoss, GivesEachTokenTheContextOfItsWindow) {
  RunConfig config = sampling_config(DType::kFloat32);
  config.model.block_size = 7;
  const Model model(config);
  const std::vector<std::int32_t> tokens = prompt_of(25, config);
  std::vector<double> sums;
  for (const std::int64_t stride : {1, 3, 7}) {
    sums.push_back(text_loss(model.view(), text_of(tokens), stride, 2).sum);
    EXPECT_NEAR(sums.back(), generated_loss(model, tokens, stride), 1e-5) << stride;
  }
  EXPECT_GT(std::abs(sums[0] - sums[2]), 1e-4) << "the context makes no difference";
}

// By probability, 1/2 of one token beats 1/4 of two; a token, 1/2 of each beats 1/4.
TEST(ChoiceScore, ComparesEndingsWholeAndByTheToken) {
  const UnigramModel model;
  const std::vector<ChoiceExample> examples = {
      {.context = {1}, .endings = {{1}, {0, 0, 0}, {3, 3}}, .label = 0},     // 2, 3 and 6 bits
      {.context = {2, 2}, .endings = {{1}, {0, 0, 0}, {3, 3}}, .label = 1},  // 2, 1 and 3 a token
      {.context = {3}, .endings = {{1}, {0, 0, 0}, {3, 3}}, .label = 2},
      {.context = {0, 1, 2}, .endings = {{2}, {0}}, .label = 1},
      {.context = {0}, .endings = {{2}, {3}}, .label = 0},  // equal: the first
      // 2 and 4 bits, 2 and 4/3 a token: the context does not count.
      {.context = {2, 2, 2, 2}, .endings = {{1}, {0, 0, 1}}, .label = 1},
      {.context = {1}, .endings = {{0, 3}, {1, 0}}, .label = 1}};  // 4 and 3 bits
  for (const std::int64_t rows : {1, 2, 4, 100}) {
    const ChoiceScore score = score_choices(model.view(), examples, rows);
    EXPECT_EQ(score.examples, 7);
    EXPECT_EQ(score.correct, 4) << rows;
    EXPECT_EQ(score.correct_normalised, 5) << rows;
    EXPECT_EQ(score_choices(model.view(), std::span(examples).first(1), rows).correct, 1);
    EXPECT_EQ(score_choices(model.view(), std::span(examples).first(1), rows).correct_normalised,
              0);
  }
}

TEST(ChoiceScore, AsksForTheEndingAfterItsContext) {
  RunConfig config = sampling_config(DType::kFloat32);
  const Model model(config);
  const std::vector<std::int32_t> context = {4, 9, 2};
  Generator generator(model.view(), 1, 8);
  generator.start(context);
  const std::span<const float> logits = generator.logits(0);
  const auto likeliest =
      static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const auto least =
      static_cast<std::int32_t>(std::min_element(logits.begin(), logits.end()) - logits.begin());
  const ChoiceExample right{.context = context, .endings = {{least}, {likeliest}}, .label = 1};
  EXPECT_EQ(score_choices(model.view(), std::span(&right, 1), 2).correct, 1);
}

TEST(ChoiceScore, RefusesWhatIsLongerThanTheModelReads) {
  const UnigramModel model;
  const ChoiceExample fits{.context = {1, 1, 1, 1}, .endings = {{1, 1, 1}, {2}}, .label = 0};
  EXPECT_NO_THROW(score_choices(model.view(), std::span(&fits, 1), 1));
  const ChoiceExample longer{.context = {1, 1, 1, 1}, .endings = {{1, 1, 1, 1}, {2}}, .label = 0};
  EXPECT_THROW(score_choices(model.view(), std::span(&longer, 1), 1), ConfigError);
}

TEST(FittingRows, AreTheMostThatFit) {
  const RunConfig config = sampling_config(DType::kFloat32);
  constexpr std::int64_t kRow = 4 << 20;
  const InferenceWork work = [](const InferenceModel& model, std::int64_t rows) {
    const Tensor taken(model.exec.memory(), Tag::kActivations, "rows", DType::kInt32,
                       {rows, kRow / 4});
  };
  for (std::int64_t most = 1; most <= 12; ++most) {
    const std::size_t budget = static_cast<std::size_t>(most * kRow + kRow / 2);
    EXPECT_EQ(fitting_rows(cpu_kernels(), config, 12, budget, work).rows, most);
  }
}

TEST(InferenceMemory, IsWhatWasPredicted) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const RunConfig config = sampling_config(dtype);
    const std::vector<std::int32_t> tokens = prompt_of(300, config);
    std::vector<ChoiceExample> examples;
    for (std::int64_t i = 0; i < 20; ++i) {
      examples.push_back({.context = prompt_of(1 + i % 7, config),
                          .endings = {prompt_of(1 + i % 5, config), prompt_of(9, config)},
                          .label = 0});
    }
    for (const std::int64_t rows : {1, 3, 64}) {
      const auto work = [&](const InferenceModel& model, std::int64_t some) {
        static_cast<void>(text_loss(model, text_of(tokens), 5, some));
        static_cast<void>(score_choices(model, examples, some));
      };
      const Prediction predicted =
          predict_inference(cpu_kernels(), config, rows, CachingAllocator::kNoBudget, work);
      const Model model(config);
      work(model.view(), rows);
      EXPECT_EQ(model.memory.stats().peak_allocated_bytes, predicted.stats.peak_allocated_bytes);
      EXPECT_EQ(model.memory.stats().peak_reserved_bytes, predicted.stats.peak_reserved_bytes);
    }
  }
}

}  // namespace
}  // namespace gpt2train::test
