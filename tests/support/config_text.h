// Settings as tests write them, and how they compare.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "gpt2train/config/fields.h"
#include "gpt2train/config/load.h"

namespace gpt2train::test {

// "batch_size=8" as --batch_size=8 reaches the loader.
inline std::vector<Override> flags(const std::vector<std::string>& words) {
  std::vector<Override> overrides;
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    overrides.push_back({"--" + key, key, word.substr(equals + 1)});
  }
  return overrides;
}

inline RunConfig parse_yaml(const std::string& yaml, const std::vector<std::string>& words = {}) {
  return parse_config(yaml, "f.yaml", flags(words));
}

// Bits, not values: -0.0 is not 0.0.
template <class Value>
inline bool same(const Value& a, const Value& b) {
  return a == b;
}
inline bool same(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}
inline bool same(const MemoryLimit& a, const MemoryLimit& b) {
  return a.kind == b.kind && a.bytes == b.bytes && same(a.fraction, b.fraction);
}

struct Addresses {
  void section(const char*) {}
  template <class Value>
  void operator()(const char*, Value& value, const char*, Range = {}) {
    list.push_back(&value);
  }
  std::vector<const void*> list = {};
};

// Expects each setting to equal the one at the same position of `others`.
struct Comparer {
  void section(const char*) {}
  template <class Value>
  void operator()(const char* name, Value& value, const char*, Range = {}) {
    EXPECT_TRUE(same(value, *static_cast<const Value*>(others.at(next++)))) << name;
  }
  std::vector<const void*> others = {};
  std::size_t next = 0;
};

inline void expect_equal(RunConfig a, RunConfig b) {
  Addresses addresses;
  visit_fields(addresses, a);
  visit_fields(Comparer{addresses.list}, b);
}

}  // namespace gpt2train::test
