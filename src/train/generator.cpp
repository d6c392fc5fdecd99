#include "gpt2train/train/generator.h"

#include <algorithm>

#include "gpt2train/model/gpt2.h"
#include "gpt2train/ops/ops.h"
#include "gpt2train/train/step.h"

namespace gpt2train {
namespace {

constexpr std::int64_t kPromptPiece = 256;  // tokens of a prompt that are read at a time

// Entry `index` of the first dimension of (n, ...) values, with another shape.
TensorView entry(const TensorView& all, std::int64_t index, Shape shape) {
  const auto bytes = all.bytes() / static_cast<std::size_t>(all.shape[0]);
  return {static_cast<char*>(all.data) + static_cast<std::size_t>(index) * bytes, all.dtype, shape};
}

}  // namespace

Generator::Generator(const InferenceModel& model, std::int64_t texts, std::int64_t most_tokens,
                     Caching caching)
    : model_(model),
      texts_(texts),
      capacity_(caching == Caching::kKept ? std::min(most_tokens, model.config.model.block_size)
                                          : 0) {
  const ModelConfig& config = model_.config.model;
  logits_.resize(static_cast<std::size_t>(texts_ * config.padded_vocab()));
  if (capacity_ == 0) return;
  const AllocScope scope(model_.exec.memory(), "cache");
  const auto take = [&](const char* name) {
    return Tensor(model_.exec.memory(), Tag::kActivations, name,
                  precision_of(model_.config).of(Role::kActivation),
                  {config.n_layer, texts_, capacity_, config.n_embd});
  };
  keys_ = take("keys");
  values_ = take("values");
}

void Generator::start(std::span<const std::int32_t> prompt) {
  const std::int64_t count = std::ssize(prompt);
  tokens_.assign(static_cast<std::size_t>(texts_), {prompt.begin(), prompt.end()});
  position_ = 0;
  alike_ = true;
  if (count > capacity_) {
    drop_cache();
    return read_windows(1);
  }
  // It is the same for all: the first reads it, the others get a copy of what is kept.
  while (position_ < count) {
    const std::int64_t piece = std::min(kPromptPiece, count - position_);
    const KeyValueCache first = cache_of(1);
    const bool last = position_ + piece == count;
    pass(prompt.subspan(static_cast<std::size_t>(position_), static_cast<std::size_t>(piece)), 1,
         &first, last ? std::optional<std::int64_t>(0) : std::nullopt);
    position_ += piece;
  }
  share_prompt();
}

void Generator::append(std::span<const std::int32_t> tokens) {
  GPT2_CHECK(std::ssize(tokens) == texts_, tokens.size(), " tokens for ", texts_, " texts");
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens_[i].push_back(tokens[i]);
  alike_ = false;
  if (position_ == capacity_) {
    drop_cache();
    return read_windows(texts_);
  }
  const KeyValueCache all = cache_of(texts_);
  pass(tokens, texts_, &all, 0);
  ++position_;
}

std::span<const float> Generator::logits(std::int64_t text) const {
  const ModelConfig& config = model_.config.model;
  const std::int64_t row = alike_ ? 0 : text;
  return std::span(logits_).subspan(static_cast<std::size_t>(row * config.padded_vocab()),
                                    static_cast<std::size_t>(config.vocab_size));
}

// Those of the first texts lie together in each block's part.
KeyValueCache Generator::cache_of(std::int64_t texts) const {
  const ModelConfig& config = model_.config.model;
  KeyValueCache cache{.k = {}, .v = {}, .position = position_};
  for (std::int64_t l = 0; l < config.n_layer; ++l) {
    cache.k.push_back(entry(keys_, l, {texts, capacity_, config.n_embd}));
    cache.v.push_back(entry(values_, l, {texts, capacity_, config.n_embd}));
  }
  return cache;
}

void Generator::share_prompt() const {
  const Shape shape = {position_, model_.config.model.n_embd};
  for (const TensorView& blocks : {keys_.view(), values_.view()}) {
    for (std::int64_t l = 0; l < blocks.shape[0]; ++l) {
      const TensorView block = entry(blocks, l, {texts_, capacity_, model_.config.model.n_embd});
      for (std::int64_t text = 1; text < texts_; ++text) {
        ops::cast(model_.exec, {.out = entry(block, text, shape), .in = entry(block, 0, shape)});
      }
    }
  }
}

void Generator::drop_cache() {
  keys_.reset();
  values_.reset();
  capacity_ = 0;
  position_ = 0;
}

void Generator::read_windows(std::int64_t texts) {
  const auto most = static_cast<std::size_t>(model_.config.model.block_size);
  for (std::int64_t text = 0; text < texts; ++text) {
    const std::vector<std::int32_t>& tokens = tokens_[static_cast<std::size_t>(text)];
    pass(std::span(tokens).last(std::min(most, tokens.size())), 1, nullptr, text);
  }
}

void Generator::pass(std::span<const std::int32_t> tokens, std::int64_t rows,
                     const KeyValueCache* cache, std::optional<std::int64_t> row_0) {
  const Exec& exec = model_.exec;
  const PhaseScope phase(exec.memory(), Phase::kSampling);
  const Scope scope(exec, "sampling");
  const std::int64_t time = std::ssize(tokens) / rows;
  const Tensor staged(exec.memory(), Tag::kStaging, "tokens", DType::kInt32, {rows, time});
  ops::upload(exec, staged, tokens.data());
  Pass each = model_.pass(rows, time);
  each.cache = cache;
  const Tensor x = forward(each, model_.weights, staged);
  if (!row_0) return;
  // Several rows have one token each.
  const Tensor out =
      head_logits(each, x.view().slice_rows(rows * (time - 1), rows), model_.weights.wte);
  const Tensor wide(exec.memory(), Tag::kLogits, "logits_fp32", DType::kFloat32, out.view().shape);
  ops::cast(exec, {.out = wide, .in = out});
  ops::download(exec, logits_.data() + *row_0 * wide.view().width(), wide);
}

}  // namespace gpt2train
