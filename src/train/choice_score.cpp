#include "gpt2train/train/choice_score.h"

#include <algorithm>
#include <vector>

#include "gpt2train/train/sequence_losses.h"

namespace gpt2train {
namespace {

struct Ending {
  const ChoiceExample* example;
  const std::vector<std::int32_t>* tokens;
  double loss = 0.0;  // of all its tokens

  std::int64_t inputs() const {  // the last token is only predicted
    return std::ssize(example->context) + std::ssize(*tokens) - 1;
  }
  double loss_a_token() const { return loss / static_cast<double>(tokens->size()); }
};

// Fills one row of a batch; returns where the ending's first token is predicted.
std::int64_t place(const Ending& ending, std::int64_t row, SequenceBatch& batch) {
  const std::vector<std::int32_t>& context = ending.example->context;
  const auto inputs = batch.inputs.begin() + row * batch.time;
  const std::int64_t first = std::ssize(context) - 1;
  std::copy(context.begin(), context.end(), inputs);
  std::copy(ending.tokens->begin(), ending.tokens->end() - 1, inputs + first + 1);
  std::copy(ending.tokens->begin(), ending.tokens->end(),
            batch.targets.begin() + row * batch.time + first);
  return row * batch.time + first;
}

}  // namespace

ChoiceScore score_choices(const InferenceModel& model, std::span<const ChoiceExample> examples,
                          std::int64_t rows) {
  std::vector<Ending> endings;
  for (const ChoiceExample& example : examples) {
    for (const auto& tokens : example.endings) endings.push_back({&example, &tokens});
  }
  // Those of about one length together, the longest first: little is padded, and the first batch
  // needs the most memory.
  std::vector<Ending*> order;
  for (Ending& ending : endings) order.push_back(&ending);
  std::stable_sort(order.begin(), order.end(),
                   [](const Ending* a, const Ending* b) { return a->inputs() > b->inputs(); });
  if (!order.empty() && order.front()->inputs() > model.config.model.block_size) {
    throw ConfigError("block_size",
                      concat("is ", model.config.model.block_size, ", of the longest question ",
                             order.front()->inputs(), " tokens are to be read"));
  }
  const std::int64_t all = std::ssize(order);
  for (std::int64_t first = 0; first < all; first += rows) {
    SequenceBatch batch(std::min(rows, all - first), order[first]->inputs());
    std::vector<std::int64_t> places;
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      places.push_back(place(*order[first + row], row, batch));
    }
    const std::vector<float> losses = sequence_losses(model, batch);
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      Ending& ending = *order[first + row];
      for (std::size_t i = 0; i < ending.tokens->size(); ++i) {
        ending.loss += double{losses[static_cast<std::size_t>(places[row]) + i]};
      }
    }
  }

  ChoiceScore score{.examples = std::ssize(examples)};
  auto begin = endings.begin();
  for (const ChoiceExample& example : examples) {
    const auto end = begin + std::ssize(example.endings);
    const auto likeliest = std::min_element(
        begin, end, [](const Ending& a, const Ending& b) { return a.loss < b.loss; });
    const auto likeliest_a_token = std::min_element(
        begin, end,
        [](const Ending& a, const Ending& b) { return a.loss_a_token() < b.loss_a_token(); });
    score.correct += likeliest - begin == example.label ? 1 : 0;
    score.correct_normalised += likeliest_a_token - begin == example.label ? 1 : 0;
    begin = end;
  }
  return score;
}

}  // namespace gpt2train
