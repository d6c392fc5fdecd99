// Values of settings as text, for each type a setting can have: parse, text_of, type_of.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "gpt2train/config/fields.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

template <class Choice>
struct Word {
  const char* text;
  Choice value;
};
template <class Choice>
Word(const char*, Choice) -> Word<Choice>;  // clang has C++20's own guide since version 17 only

// The words of a choice, in the order of help; later ones with the same value are synonyms.
template <class Choice>
struct Words;  // undefined on purpose

template <>
struct Words<bool> {
  static constexpr std::array list{Word{"true", true}, Word{"false", false}, Word{"True", true},
                                   Word{"False", false}};
};
template <>
struct Words<DeviceChoice> {
  static constexpr std::array list{Word{"auto", DeviceChoice::kAuto},
                                   Word{"cpu", DeviceChoice::kCpu},
                                   Word{"cuda", DeviceChoice::kCuda}};
};
template <>
struct Words<DType> {
  static constexpr std::array list{
      Word{"float32", DType::kFloat32}, Word{"bfloat16", DType::kBFloat16},
      Word{"float16", DType::kFloat16}, Word{"fp32", DType::kFloat32},
      Word{"bf16", DType::kBFloat16},   Word{"fp16", DType::kFloat16}};
};
template <>
struct Words<Attention> {
  static constexpr std::array list{Word{"native", Attention::kNative},
                                   Word{"cudnn", Attention::kCudnn},
                                   Word{"auto", Attention::kAuto}};
};
template <>
struct Words<GeluForm> {
  static constexpr std::array list{Word{"erf", GeluForm::kErf}, Word{"tanh", GeluForm::kTanh}};
};
template <>
struct Words<TokenFormat> {
  static constexpr std::array list{
      Word{"auto", TokenFormat::kAuto}, Word{"nanogpt", TokenFormat::kNanoGpt},
      Word{"llmc", TokenFormat::kLlmc}, Word{"bytes", TokenFormat::kBytes}};
};
template <>
struct Words<PlanMode> {
  static constexpr std::array list{Word{"auto", PlanMode::kAuto}, Word{"off", PlanMode::kOff}};
};
template <>
struct Words<Segments> {
  static constexpr std::array list{Word{"fixed", Segments::kFixed},
                                   Word{"expandable", Segments::kExpandable}};
};
template <>
struct Words<Logits> {
  static constexpr std::array list{Word{"chunked", Logits::kChunked}, Word{"full", Logits::kFull}};
};
template <>
struct Words<Moments> {
  static constexpr std::array list{Word{"float32", Moments::kFloat32},
                                   Word{"bfloat16", Moments::kBFloat16},
                                   Word{"int8", Moments::kInt8}, Word{"fp32", Moments::kFloat32},
                                   Word{"bf16", Moments::kBFloat16}};
};
template <>
struct Words<Offload> {
  static constexpr std::array list{Word{"none", Offload::kNone}, Word{"moments", Offload::kMoments},
                                   Word{"optimizer", Offload::kOptimizer}};
};
template <>
struct Words<std::optional<Recompute>> {
  static constexpr std::array<Word<std::optional<Recompute>>, 5> list{
      {{"auto", std::nullopt},
       {"none", Recompute::kNone},
       {"gelu", Recompute::kGelu},
       {"gelu+layernorm", Recompute::kGeluLayerNorm},
       {"block", Recompute::kBlock}}};
};

// Whatever the locale.
inline bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// False, and the value untouched, where the text is no such value. Numbers are decimal and fill
// the text: 010 and, for an integer, 1e3 are refused rather than guessed at.
bool parse(std::string_view text, std::string& value);
bool parse(std::string_view text, std::int64_t& value);
bool parse(std::string_view text, std::uint64_t& value);
bool parse(std::string_view text, double& value);
bool parse(std::string_view text, MemoryLimit& value);

template <class Choice>
bool parse(std::string_view text, Choice& value) {
  for (const auto& word : Words<Choice>::list) {
    if (text != word.text) continue;
    value = word.value;
    return true;
  }
  return false;
}

// What parse() reads back as the same value.
std::string text_of(const std::string& value);
std::string text_of(std::int64_t value);
std::string text_of(std::uint64_t value);
std::string text_of(double value);
std::string text_of(const MemoryLimit& value);

template <class Choice>
std::string text_of(const Choice& value) {
  for (const auto& word : Words<Choice>::list) {
    if (value == word.value) return word.text;
  }
  return "?";
}

// What a value may be, for messages and tables: "integer in [1, 65536]".
std::string type_of(const std::string& value, const Range& range);
std::string type_of(std::int64_t value, const Range& range);
std::string type_of(std::uint64_t value, const Range& range);
std::string type_of(double value, const Range& range);
std::string type_of(const MemoryLimit& value, const Range& range);
std::string type_of(DeviceChoice value, const Range& range);

template <class Choice>
std::string type_of(const Choice&, const Range&) {
  std::string words;
  for (const auto& word : Words<Choice>::list) {
    if (word.text != text_of(word.value)) continue;  // a synonym
    words += words.empty() ? "" : "|";
    words += word.text;
  }
  return "one of " + words;
}

bool contains(const Range& range, const std::string& value);
bool contains(const Range& range, std::int64_t value);
bool contains(const Range& range, double value);

template <class Value>
bool contains(const Range&, const Value&) {
  return true;  // what parses is in range
}

// Text from a file as it can stand in a one-line message: short, and without control characters.
std::string printable(std::string_view text);
std::string in_quotes(std::string_view text);

// Edits that turn one word into the other: insertions, deletions, replacements, swaps of
// neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The known word that one with a slip in it most likely stands for.
class Nearest {
 public:
  explicit Nearest(const std::string& word) : word_(word), fewest_edits_(2 + word.size() / 4) {}
  // `shown` is how `known` appears in the question.
  void consider(const std::string& known, const std::string& shown);
  // "; did you mean n_layer?", or nothing where no known word is near.
  std::string question() const;

 private:
  const std::string word_;
  std::size_t fewest_edits_;
  std::string best_;
};

}  // namespace gpt2train
