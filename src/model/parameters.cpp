#include "gpt2train/model/parameters.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gpt2train/core/rng.h"

namespace gpt2train {
namespace {

constexpr std::int64_t kAlignment = 64;  // elements: 128 bytes even in 16-bit types
constexpr double kInitStd = 0.02;

std::int64_t aligned(std::int64_t count) {
  return (count + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

ParameterLayout::ParameterLayout(const ModelConfig& config) {
  const std::int64_t C = config.n_embd;
  const double residual_std = kInitStd / std::sqrt(2.0 * static_cast<double>(config.n_layer));

  const auto add = [&](std::string name, Shape shape, Init init, double std, bool linear,
                       std::int64_t stored_rows) {
    const bool decay = shape.rank() >= 2;
    list_.push_back({.name = std::move(name),
                     .shape = shape,
                     .transposed_in_hf = linear,
                     .decay = decay,
                     .init = init,
                     .init_std = std,
                     .offset = flat_count_,
                     .stored_rows = stored_rows});
    const std::int64_t begin = flat_count_;
    flat_count_ += aligned(stored_rows * (shape.rank() == 2 ? shape[1] : 1));
    if (!decay_ranges_.empty() && decay_ranges_.back().decay == decay) {
      decay_ranges_.back().end = flat_count_;
    } else {
      decay_ranges_.push_back({.begin = begin, .end = flat_count_, .decay = decay});
    }
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {C}, Init::kOnes, 0.0, false, C);
    if (config.bias) add(name + ".bias", {C}, Init::kZeros, 0.0, false, C);
  };
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in, double std) {
    add(name + ".weight", {out, in}, Init::kNormal, std, true, out);
    if (config.bias) add(name + ".bias", {out}, Init::kZeros, 0.0, false, out);
  };

  add("wte.weight", {config.vocab_size, C}, Init::kNormal, kInitStd, false, config.padded_vocab());
  add("wpe.weight", {config.block_size, C}, Init::kNormal, kInitStd, false, config.block_size);
  for (std::int64_t l = 0; l < config.n_layer; ++l) {
    const std::string h = concat("h.", l, '.');
    norm(h + "ln_1");
    linear(h + "attn.c_attn", 3 * C, C, kInitStd);
    linear(h + "attn.c_proj", C, C, residual_std);
    norm(h + "ln_2");
    linear(h + "mlp.c_fc", 4 * C, C, kInitStd);
    linear(h + "mlp.c_proj", C, 4 * C, residual_std);
  }
  norm("ln_f");
}

const Parameter& ParameterLayout::at(const std::string& name) const {
  for (const Parameter& parameter : list_) {
    if (parameter.name == name) return parameter;
  }
  throw InternalError(concat("no parameter ", name));
}

TensorView ParameterLayout::view(const TensorView& flat, const Parameter& parameter) const {
  GPT2_CHECK(flat.count() == flat_count_, "flat array ", flat.shape, " for a layout of ",
             flat_count_);
  char* begin = static_cast<char*>(flat.data) +
                static_cast<std::size_t>(parameter.offset) * size_of(flat.dtype);
  return {begin, flat.dtype, parameter.shape};
}

void initial_values(const ParameterLayout& layout, std::size_t index, std::uint64_t seed,
                    std::int64_t first, std::span<float> values) {
  const Parameter& parameter = layout.list()[index];
  if (parameter.init != Init::kNormal) {
    std::fill(values.begin(), values.end(), parameter.init == Init::kOnes ? 1.0f : 0.0f);
    return;
  }
  const auto count = static_cast<std::int64_t>(values.size());
#pragma omp parallel for
  for (std::int64_t at = 0; at < count; at += 4) {  // Box-Muller: two pairs a counter
    const Philox4 words = random_words(seed, RandomUse::kInit, index, 0,
                                       static_cast<std::uint32_t>((first + at) / 4));
    for (std::int64_t j = 0; j < 4 && at + j < count; ++j) {
      const std::size_t pair = static_cast<std::size_t>(j) / 2 * 2;
      const double u = (words[pair] + 1.0) * 0x1p-32;  // (0, 1]: its logarithm is finite
      const double angle = 2.0 * std::numbers::pi * words[pair + 1] * 0x1p-32;
      const double normal =
          std::sqrt(-2.0 * std::log(u)) * (j % 2 == 0 ? std::cos(angle) : std::sin(angle));
      values[at + j] = static_cast<float>(parameter.init_std * normal);
    }
  }
}

ModelTensors bind(const ParameterLayout& layout, const TensorView& flat) {
  // Parameters are visited in the order the layout lists them, optional ones where they are there.
  std::size_t next = 0;
  const auto take = [&](bool present = true) -> TensorView {
    if (!present) return {};
    return layout.view(flat, layout.list()[next++]);
  };
  const auto next_is_bias = [&] {
    return next < layout.list().size() && layout.list()[next].name.ends_with(".bias");
  };

  ModelTensors tensors;
  tensors.wte = take();
  tensors.wte.shape = {layout.list()[0].stored_rows, tensors.wte.width()};
  tensors.wpe = take();
  while (next < layout.list().size() && layout.list()[next].name.starts_with("h.")) {
    BlockTensors& block = tensors.blocks.emplace_back();
    for (const auto& [weight, bias] : {std::pair{&block.ln1_gamma, &block.ln1_beta},
                                       {&block.qkv_weight, &block.qkv_bias},
                                       {&block.proj_weight, &block.proj_bias},
                                       {&block.ln2_gamma, &block.ln2_beta},
                                       {&block.fc_weight, &block.fc_bias},
                                       {&block.out_weight, &block.out_bias}}) {
      *weight = take();
      *bias = take(next_is_bias());
    }
  }
  tensors.lnf_gamma = take();
  tensors.lnf_beta = take(next_is_bias());
  return tensors;
}

}  // namespace gpt2train
