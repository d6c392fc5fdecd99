// Random settings over every lever that memory depends on, small enough to train in milliseconds,
// with an account of the values that were drawn. Levers are the list of settings itself: one that
// is added there is drawn here, or missed.
#pragma once

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gpt2train/config/fields.h"
#include "src/config/text.h"

namespace gpt2train::test {

class RandomLevers {
 public:
  explicit RandomLevers(unsigned seed) : seed_(seed) {}

  // A value that the device at hand does not have, "dtype: float16".
  void leave_out(const std::string& value) { left_out_.insert(value); }

  RunConfig config() {
    RunConfig config;
    drawn_.clear();
    visit_fields(*this, config);
    config.model.n_embd *= config.model.n_head;  // until here, the size of a head
    config.memory.master_weights |= config.dtype == DType::kFloat16;
    return config;
  }

  // Of the last config(): "n_layer 2, n_head 1, ...".
  const std::string& drawn() const { return drawn_; }

  // Each value that was never drawn, "memory.logits: full", a line; empty when all of them were.
  std::string missed() const {
    std::string missed;
    for (const auto& [value, times] : times_) {
      if (times == 0) missed += value + '\n';
    }
    return missed;
  }

  void section(const char* name) { section_ = name; }
  template <class Value>
  void operator()(const char* name, Value& value, const char*, Range = {}) {
    const std::string path = section_.empty() ? name : section_ + '.' + name;
    static const std::set<std::string> kOtherSections = {"data", "logging", "optimizer"};
    // What no tensor depends on, what a test sets itself, and cuDNN, which is another backend's.
    static const std::set<std::string> kOthers = {"attention",
                                                  "checkpoint.keep_checkpoints",
                                                  "device",
                                                  "init_from",
                                                  "memory.device",
                                                  "memory.limit",
                                                  "memory.trace",
                                                  "memory.tune",
                                                  "out_dir",
                                                  "seed",
                                                  "training.log_interval"};
    if (kOtherSections.contains(section_) || kOthers.contains(path)) return;
    const std::vector<Value> values = values_of(path, value);
    if (values.empty()) times_[path + ": no value to draw"] = 0;
    for (const Value& each : values) times_[path + ": " + text_of(each)] += 0;
    if (values.empty()) return;
    // Either ends a run early or writes to a disk: not in every other run.
    const bool seldom = path == "evaluation.eval_only" || section_ == "checkpoint";
    std::mt19937& random = generator_of(path);
    value = seldom && random() % 5 != 0 ? values.back() : values[random() % values.size()];
    ++times_[path + ": " + text_of(value)];
    drawn_ += std::string(drawn_.empty() ? "" : ", ") + name + ' ' + text_of(value);
  }

 private:
  // Each lever has its own, so that one more setting leaves the values of the others as they were.
  std::mt19937& generator_of(const std::string& path) {
    const auto found = generators_.find(path);
    if (found != generators_.end()) return found->second;
    std::vector<unsigned> words(path.begin(), path.end());
    words.push_back(seed_);
    std::seed_seq seed(words.begin(), words.end());
    return generators_.emplace(path, std::mt19937(seed)).first->second;
  }

  template <class Choice>
  std::vector<Choice> values_of(const std::string& path, const Choice&) const {
    std::vector<Choice> values;
    for (const auto& word : Words<Choice>::list) {
      const bool synonym = text_of(word.value) != word.text;
      if (!synonym && !left_out_.contains(path + ": " + word.text)) values.push_back(word.value);
    }
    return values;
  }
  std::vector<std::int64_t> values_of(const std::string& path, std::int64_t) const {
    static const std::map<std::string, std::vector<std::int64_t>> kNumbers = {
        {"model.n_layer", {1, 2}},
        {"model.n_head", {1, 2, 3}},
        {"model.n_embd", {4, 8, 20}},
        {"model.block_size", {1, 7, 33, 1, 7, 33, 128}},
        {"model.vocab_size", {5, 65, 1000, 5, 65, 1000, 4000}},
        {"training.batch_size", {1, 2, 3, 4}},
        {"training.gradient_accumulation_steps", {1, 2, 3}},
        {"training.max_iters", {0, 1, 2, 3}},
        {"evaluation.eval_interval", {1, 2, 100}},
        {"evaluation.eval_iters", {1, 2}},
        {"evaluation.eval_micro_batch", {0, 1, 5}},
        {"evaluation.sample_tokens", {0, 0, 1, 3, 40}},
        {"checkpoint.checkpoint_interval", {1, 0, 100}},
        {"memory.recompute_layers", {0, 1, 2}},
        {"memory.logits_rows", {1, 8, 50, 1024}}};
    const auto found = kNumbers.find(path);
    return found == kNumbers.end() ? std::vector<std::int64_t>{} : found->second;
  }
  std::vector<double> values_of(const std::string& path, double) const {
    return path == "model.dropout" ? std::vector{0.0, 0.2} : std::vector<double>{};
  }
  std::vector<std::uint64_t> values_of(const std::string&, std::uint64_t) const { return {}; }
  std::vector<std::string> values_of(const std::string&, const std::string&) const { return {}; }
  std::vector<MemoryLimit> values_of(const std::string&, const MemoryLimit&) const { return {}; }

  const unsigned seed_;
  std::map<std::string, std::mt19937> generators_;
  std::set<std::string> left_out_;
  std::map<std::string, int> times_;
  std::string section_, drawn_;
};

}  // namespace gpt2train::test
